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
from mammoscope.inference.detector import Detector, ModelError, as_findings, reading_at

__all__ = [
    "METADATA_KEY",
    "Bundle",
    "BundleError",
    "BundleInput",
    "BundleMetadata",
    "Calibration",
    "Detector",
    "Figures",
    "ModelError",
    "OperatingPoint",
    "TrainingData",
    "as_findings",
    "log_odds",
    "reading_at",
    "rewrite_metadata",
    "shipped_bundle",
]
