"""One mammogram: reading it, its breast region, and the one path its pixels take to a network."""

from mammoscope.imaging.errors import MammogramError
from mammoscope.imaging.mammogram import (
    WHITE,
    Acquisition,
    Laterality,
    Mammogram,
    PixelSpacing,
    PresentationIntent,
    View,
)

__all__ = [
    "WHITE",
    "Acquisition",
    "Laterality",
    "Mammogram",
    "MammogramError",
    "PixelSpacing",
    "PresentationIntent",
    "View",
]
