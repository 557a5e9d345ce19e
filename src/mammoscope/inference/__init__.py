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
    shipped_bundle,
)
from mammoscope.inference.detector import Detector

__all__ = [
    "METADATA_KEY",
    "Bundle",
    "BundleError",
    "BundleInput",
    "BundleMetadata",
    "Detector",
    "Figures",
    "OperatingPoint",
    "TrainingData",
    "shipped_bundle",
]
