"""One mammogram: reading it, its breast region, and the one path its pixels take to a network."""

from mammoscope.imaging.errors import MammogramError
from mammoscope.imaging.files import find_files
from mammoscope.imaging.mammogram import (
    WHITE,
    Acquisition,
    Laterality,
    Mammogram,
    PixelSpacing,
    PresentationIntent,
    View,
)
from mammoscope.imaging.reader import MammogramReader, read_mammogram

__all__ = [
    "WHITE",
    "Acquisition",
    "Laterality",
    "Mammogram",
    "MammogramError",
    "MammogramReader",
    "PixelSpacing",
    "PresentationIntent",
    "View",
    "find_files",
    "read_mammogram",
]
