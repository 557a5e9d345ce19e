"""How good a detector is: matching, AP, precision, recall, F1, FROC, their intervals, the report. No torch."""

from mammoscope.evaluation.attributes import attributes_of
from mammoscope.evaluation.calibration import ReliabilityBin, calibration_error, reliability
from mammoscope.evaluation.cases import (
    CASES,
    METRICS,
    PREDICTIONS,
    Case,
    Report,
    cases_to_coco,
    predictions_to_coco,
    read_report,
)
from mammoscope.evaluation.comparison import (
    Difference,
    differences_table,
    figures_table,
    model_names,
    paired_differences,
    same_truth,
)
from mammoscope.evaluation.curves import draw_froc, draw_precision_recall
from mammoscope.evaluation.error_kinds import ErrorFigures, ErrorKind, count_errors, mended_precision
from mammoscope.evaluation.errors import EvaluationError
from mammoscope.evaluation.figures import (
    Counts,
    area_under_precision_recall,
    average_precision,
    choose_threshold,
    count_at,
    froc_curve,
    precision_recall_curve,
    sensitivity_at,
)
from mammoscope.evaluation.html_report import report_html
from mammoscope.evaluation.matching import CENTRE, MAX_CANDIDATES, ImageResult, Matches, match, match_by
from mammoscope.evaluation.metrics import FPPI, Metrics, evaluate
from mammoscope.evaluation.report import named_figures, report_markdown
from mammoscope.evaluation.subgroups import Subgroup, check_attributes, figures_by
from mammoscope.evaluation.tables import FigureTable, TableFormat

__all__ = [
    "CASES",
    "CENTRE",
    "FPPI",
    "MAX_CANDIDATES",
    "METRICS",
    "PREDICTIONS",
    "Case",
    "Counts",
    "Difference",
    "ErrorFigures",
    "ErrorKind",
    "EvaluationError",
    "FigureTable",
    "ImageResult",
    "Matches",
    "Metrics",
    "ReliabilityBin",
    "Report",
    "Subgroup",
    "TableFormat",
    "area_under_precision_recall",
    "attributes_of",
    "average_precision",
    "calibration_error",
    "cases_to_coco",
    "check_attributes",
    "choose_threshold",
    "count_at",
    "count_errors",
    "differences_table",
    "draw_froc",
    "draw_precision_recall",
    "evaluate",
    "figures_by",
    "figures_table",
    "froc_curve",
    "match",
    "match_by",
    "mended_precision",
    "model_names",
    "named_figures",
    "paired_differences",
    "precision_recall_curve",
    "predictions_to_coco",
    "read_report",
    "reliability",
    "report_html",
    "report_markdown",
    "same_truth",
    "sensitivity_at",
]
