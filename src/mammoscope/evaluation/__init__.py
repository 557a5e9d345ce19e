"""How good a detector is: matching, AP, precision, recall, F1, FROC, their intervals, the report. No torch."""

from mammoscope.evaluation.attributes import attributes_of
from mammoscope.evaluation.calibration import calibrated, fit_calibration, recalibrated_metadata, uncalibrated
from mammoscope.evaluation.cases import (
    CASES,
    METRICS,
    PREDICTIONS,
    Case,
    Report,
    case_of,
    cases_to_coco,
    predictions_to_coco,
    read_report,
    report_folder,
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
from mammoscope.evaluation.figure_set import FPPI, FROC_MEANS
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
from mammoscope.evaluation.metrics import Metrics, evaluate
from mammoscope.evaluation.model_card import model_card_markdown, read_metrics
from mammoscope.evaluation.reliability import ReliabilityBin, calibration_error, reliability
from mammoscope.evaluation.report import named_figures, report_markdown
from mammoscope.evaluation.roc import RatedUnits, Unit, rate, roc_auc, roc_curve
from mammoscope.evaluation.run_record import RunRecord, read_run, recipe_lines
from mammoscope.evaluation.subgroups import Subgroup, check_attributes, figures_by
from mammoscope.evaluation.tables import FigureTable, TableFormat

__all__ = [
    "CASES",
    "CENTRE",
    "FPPI",
    "FROC_MEANS",
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
    "RatedUnits",
    "ReliabilityBin",
    "Report",
    "RunRecord",
    "Subgroup",
    "TableFormat",
    "Unit",
    "area_under_precision_recall",
    "attributes_of",
    "average_precision",
    "calibrated",
    "calibration_error",
    "case_of",
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
    "fit_calibration",
    "froc_curve",
    "match",
    "match_by",
    "mended_precision",
    "model_card_markdown",
    "model_names",
    "named_figures",
    "paired_differences",
    "precision_recall_curve",
    "predictions_to_coco",
    "rate",
    "read_metrics",
    "read_report",
    "read_run",
    "recalibrated_metadata",
    "recipe_lines",
    "reliability",
    "report_folder",
    "report_html",
    "report_markdown",
    "roc_auc",
    "roc_curve",
    "same_truth",
    "sensitivity_at",
    "uncalibrated",
]
