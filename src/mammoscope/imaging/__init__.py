"""One mammogram: reading it, its breast region, and the one path its pixels take to a network."""

from mammoscope.imaging.breast import BreastExtent, BreastRegion, breast_extent, find_breast_region
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
from mammoscope.imaging.pyramid import TILE, Curve, Display, TilePyramid, tile_number, unpacked
from mammoscope.imaging.reader import (
    DecoderLostError,
    MammogramReader,
    MammogramRefusedError,
    read_mammogram,
    read_mammogram_header,
)

__all__ = [
    "TILE",
    "WHITE",
    "Acquisition",
    "BreastExtent",
    "BreastRegion",
    "Crop",
    "Curve",
    "DecoderLostError",
    "Display",
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
    "TilePyramid",
    "View",
    "breast_extent",
    "find_breast_region",
    "find_files",
    "prepare",
    "read_mammogram",
    "read_mammogram_header",
    "tile_number",
    "unpacked",
]
