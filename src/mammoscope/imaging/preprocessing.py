"""The one path from a mammogram's pixels to a network's input, for training, evaluation and the node alike."""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.imaging.breast import BreastRegion, find_breast_region
from mammoscope.imaging.mammogram import Mammogram, Placement


class Crop(StrEnum):
    """What of a mammogram a network sees."""

    BREAST = "breast"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class InputGeometry:
    """A network's input: its size in pixels and what of the mammogram fills it.

    The cropped region is resized to fill the input exactly; its aspect is not kept
    (docs/decisions/002-input-geometry.md).
    """

    rows: int
    columns: int
    crop: Crop = Crop.BREAST

    def __post_init__(self) -> None:
        if self.rows < 32 or self.columns < 32 or self.rows % 32 or self.columns % 32:
            raise ValueError(f"a network's input sides are multiples of 32, not {self.rows} x {self.columns}")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """What a network sees.

    Parameters
    ----------
    pixels
        Shape (rows, columns), ``float32`` from 0 to 1: the 1st and 99.8th percentile of the breast's pixels
        became 0 and 1.
    placement
        Where the picture lies in the mammogram.
    """

    pixels: NDArray[np.float32]
    placement: Placement


_PERCENTILES = (1.0, 99.8)


def prepare(mammogram: Mammogram, geometry: InputGeometry) -> PreparedImage:
    """A mammogram as a network with that input geometry sees it."""
    region = find_breast_region(mammogram.pixels)
    if geometry.crop is Crop.BREAST:
        x0, x1, y0, y1 = _limit_distortion(region, mammogram.columns, mammogram.rows)
    else:
        x0, x1, y0, y1 = 0, mammogram.columns, 0, mammogram.rows
    cropped = mammogram.pixels[y0:y1, x0:x1]
    low, high = _breast_levels(mammogram.pixels, region)
    shrinks = cropped.shape[0] > geometry.rows and cropped.shape[1] > geometry.columns
    resized = cv2.resize(
        cropped,
        (geometry.columns, geometry.rows),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    ).astype(np.float32)
    pixels = np.clip((resized - low) / (high - low), 0.0, 1.0, dtype=np.float32)
    placement = Placement(x0, y0, (x1 - x0) / geometry.columns, (y1 - y0) / geometry.rows)
    return PreparedImage(pixels, placement)


_NARROWEST, _WIDEST = 0.5, 1.25
"""Bounds of the crop's width over its height, each as a part of the image's own side.

Most breasts lie between them. A crop outside is widened, so that filling the input does not distort it beyond what
a network has seen. Parts of the image rather than pixels: a mammogram stretched by its data set gives the same crop.
"""


def _limit_distortion(region: BreastRegion, columns: int, rows: int) -> tuple[int, int, int, int]:
    width, height = (region.x1 - region.x0) / columns, (region.y1 - region.y0) / rows
    x0, x1 = _widen(region.x0, region.x1, max(width, _NARROWEST * height) * columns, columns)
    y0, y1 = _widen(region.y0, region.y1, max(height, width / _WIDEST) * rows, rows)
    return x0, x1, y0, y1


def _widen(start: int, stop: int, size: float, limit: int) -> tuple[int, int]:
    missing = max(round(size) - (stop - start), 0)
    start = min(max(start - missing // 2, 0), max(limit - round(size), 0)) if missing else start
    return start, min(max(stop, start + round(size)), limit)


def _breast_levels(pixels: NDArray[np.uint16], region: BreastRegion) -> tuple[float, float]:
    rows, columns = region.mask.shape
    small = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small[region.mask], _PERCENTILES)
    return float(low), float(max(high, low + 1.0))
