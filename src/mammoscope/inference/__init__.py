"""The packed model and the detector that runs it, without torch."""

from mammoscope.inference.bundle import (
    METADATA_KEY,
    Bundle,
    BundleError,
    BundleInput,
    BundleMetadata,
    Figures,
    OperatingPoint,
    TrainingData,
    rewrite_metadata,
    shipped_bundle,
)
from mammoscope.inference.calibration import Calibration, log_odds
from mammoscope.inference.data_roles import DataRole, KnownData
from mammoscope.inference.detector import Detector, ModelError, as_findings, reading_at
from mammoscope.inference.two_views import BreastView, TwoViews, is_whole_view, pairs_of_views

__all__ = [
    "METADATA_KEY",
    "BreastView",
    "Bundle",
    "BundleError",
    "BundleInput",
    "BundleMetadata",
    "Calibration",
    "DataRole",
    "Detector",
    "Figures",
    "KnownData",
    "ModelError",
    "OperatingPoint",
    "TrainingData",
    "TwoViews",
    "as_findings",
    "is_whole_view",
    "log_odds",
    "pairs_of_views",
    "reading_at",
    "rewrite_metadata",
    "shipped_bundle",
]
