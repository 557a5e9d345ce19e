"""One mammogram: reading it, its breast region, and the one path its pixels take to a network."""

from mammoscope.imaging.breast import BreastRegion, find_breast_region
from mammoscope.imaging.files import find_files
from mammoscope.imaging.mammogram import (
    WHITE,
    Acquisition,
    Laterality,
    Mammogram,
    MammogramError,
    MammogramUnavailableError,
    PixelSpacing,
    Placement,
    PresentationIntent,
    View,
)
from mammoscope.imaging.preprocessing import Crop, PreparedImage, Preprocessing, ReducedMammogram, prepare
from mammoscope.imaging.reader import (
    DecoderLostError,
    MammogramReader,
    MammogramRefusedError,
    read_mammogram,
    read_mammogram_header,
)

__all__ = [
    "WHITE",
    "Acquisition",
    "BreastRegion",
    "Crop",
    "DecoderLostError",
    "Laterality",
    "Mammogram",
    "MammogramError",
    "MammogramReader",
    "MammogramRefusedError",
    "MammogramUnavailableError",
    "PixelSpacing",
    "Placement",
    "PreparedImage",
    "Preprocessing",
    "PresentationIntent",
    "ReducedMammogram",
    "View",
    "find_breast_region",
    "find_files",
    "prepare",
    "read_mammogram",
    "read_mammogram_header",
]
