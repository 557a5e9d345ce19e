"""One mammogram: reading it, its breast region, and the one path its pixels take to a network."""

from mammoscope.imaging.breast import BreastRegion, find_breast_region
from mammoscope.imaging.files import find_files
from mammoscope.imaging.mammogram import (
    WHITE,
    Acquisition,
    Laterality,
    Mammogram,
    MammogramError,
    PixelSpacing,
    Placement,
    PresentationIntent,
    View,
)
from mammoscope.imaging.preprocessing import Crop, InputGeometry, PreparedImage, prepare
from mammoscope.imaging.reader import MammogramReader, read_mammogram

__all__ = [
    "WHITE",
    "Acquisition",
    "BreastRegion",
    "Crop",
    "InputGeometry",
    "Laterality",
    "Mammogram",
    "MammogramError",
    "MammogramReader",
    "PixelSpacing",
    "Placement",
    "PreparedImage",
    "PresentationIntent",
    "View",
    "find_breast_region",
    "find_files",
    "prepare",
    "read_mammogram",
]
