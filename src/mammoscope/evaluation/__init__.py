"""How good a detector is: matching, AP, precision, recall, F1, FROC, their intervals, the report. No torch."""

from mammoscope.evaluation.curves import draw_froc, draw_precision_recall
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
from mammoscope.evaluation.matching import CENTRE, MAX_CANDIDATES, ImageResult, Matches, match
from mammoscope.evaluation.metrics import FPPI, Metrics, evaluate
from mammoscope.evaluation.report import named_figures, report_markdown

__all__ = [
    "CENTRE",
    "FPPI",
    "MAX_CANDIDATES",
    "Counts",
    "EvaluationError",
    "ImageResult",
    "Matches",
    "Metrics",
    "area_under_precision_recall",
    "average_precision",
    "choose_threshold",
    "count_at",
    "draw_froc",
    "draw_precision_recall",
    "evaluate",
    "froc_curve",
    "match",
    "named_figures",
    "precision_recall_curve",
    "report_markdown",
    "sensitivity_at",
]
