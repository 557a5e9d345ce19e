"""The one path from a mammogram's pixels to a network's input, for training, evaluation and the node alike.

With it `ReducedMammogram`, what is kept of a mammogram whose pixels stay where they were decoded and prepared.
"""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mammoscope.imaging.breast import BreastRegion, find_breast_region
from mammoscope.imaging.mammogram import Acquisition, Laterality, Mammogram, PixelSpacing, Placement, View

LARGEST_SIDE = 2000
"""In pixels: no result shows a mammogram larger (`mammoscope.results.rendering`)."""


class Crop(StrEnum):
    """What of a mammogram a network sees."""

    BREAST = "breast"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a mammogram's pixels become a network's input: all of it, as a bundle stores it and `prepare` reads it.

    The cropped region is resized to fill the input exactly; its aspect is not kept
    (docs/decisions/002-input-preprocessing.md). It shrinks by averaging areas and grows by linear interpolation.

    Parameters
    ----------
    rows, columns
        Size of the input in pixels, multiples of 32.
    crop
        What of the mammogram fills it.
    percentiles
        Of the breast's pixels, in percent: what becomes 0 and what becomes 1.
    aspect
        Narrowest and widest crop of the breast: bounds of its width over its height, each as a part of the image's own
        side. A narrower or wider one is widened, so that filling the input does not distort it beyond what a network
        has seen. Parts of the image rather than pixels: a mammogram stretched by its data set gives the same crop.

    Raises
    ------
    ValueError
        If a side is no multiple of 32, or a pair of bounds does not rise or lies outside its range.
    """

    rows: int
    columns: int
    crop: Crop = Crop.BREAST
    percentiles: tuple[float, float] = (1.0, 99.8)
    aspect: tuple[float, float] = (0.5, 1.25)

    def __post_init__(self) -> None:
        if self.rows < 32 or self.columns < 32 or self.rows % 32 or self.columns % 32:
            raise ValueError(f"a network's input sides are multiples of 32, not {self.rows} x {self.columns}")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles rise from 0 to 100, not {self.percentiles}")
        if not 0 < self.aspect[0] < self.aspect[1] < math.inf:
            raise ValueError(f"the bounds of a crop's aspect rise from above 0, not {self.aspect}")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """What a network sees.

    Parameters
    ----------
    pixels
        Shape (rows, columns), ``float32`` from 0 to 1.
    placement
        Where the picture lies in the mammogram.
    """

    pixels: NDArray[np.float32]
    placement: Placement


@dataclass(frozen=True, slots=True, eq=False)
class ReducedMammogram:
    """What is kept of a mammogram whose pixels stay in the process that decoded them.

    Parameters
    ----------
    picture
        ``uint16``, as `Mammogram.pixels`, reduced to what results show: `LARGEST_SIDE` pixels at most on the longer
        side. Or the NumPy file that it lies in.
    name, laterality, view, view_modifiers, spacing, acquisition, header, path
        As of `Mammogram`.
    rows, columns
        Size of the mammogram in its file.
    network_input
        The mammogram as the model sees it; ``None`` where no model was named, or once it was read.
    """

    picture: NDArray[np.uint16] | Path
    name: str
    rows: int
    columns: int
    laterality: Laterality | None = None
    view: View | None = None
    view_modifiers: tuple[str, ...] = ()
    spacing: PixelSpacing | None = None
    acquisition: Acquisition = field(default_factory=Acquisition)
    header: Dataset | None = None
    path: Path | None = None
    network_input: PreparedImage | None = None

    @property
    def pixels(self) -> NDArray[np.uint16]:
        """The reduced picture. Boxes are not in its pixels but in those of the file, `rows` x `columns`."""
        if isinstance(self.picture, Path):
            return np.asarray(np.load(self.picture, allow_pickle=False), np.uint16)
        return self.picture

    def kept_in(self, file: Path) -> Self:
        """The same with its picture in a file instead of memory, and without the network's input.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        with file.open("wb") as out:
            np.save(out, self.pixels, allow_pickle=False)
        return replace(self, picture=file, network_input=None)

    @classmethod
    def black(cls, header: Dataset, name: str, rows: int, columns: int) -> Self:
        """A mammogram of which nothing but its header could be had."""
        pixels = np.zeros(reduced_size(rows, columns), np.uint16)
        return cls(pixels, name, rows, columns, header=header)


def reduced_size(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of the picture that is kept of a mammogram of that size."""
    scale = min(1.0, LARGEST_SIDE / max(rows, columns))
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def prepare(mammogram: Mammogram, preprocessing: Preprocessing) -> PreparedImage:
    """A mammogram as a network sees it whose bundle asks for that preprocessing."""
    region = find_breast_region(mammogram.pixels)
    if preprocessing.crop is Crop.BREAST:
        x0, x1, y0, y1 = _limit_distortion(region, mammogram.columns, mammogram.rows, preprocessing.aspect)
    else:
        x0, x1, y0, y1 = 0, mammogram.columns, 0, mammogram.rows
    cropped = mammogram.pixels[y0:y1, x0:x1]
    low, high = _breast_levels(region, preprocessing.percentiles)
    shrinks = cropped.shape[0] > preprocessing.rows and cropped.shape[1] > preprocessing.columns
    resized = cv2.resize(
        cropped,
        (preprocessing.columns, preprocessing.rows),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    ).astype(np.float32)
    pixels = np.clip((resized - low) / (high - low), 0.0, 1.0, dtype=np.float32)
    placement = Placement(x0, y0, (x1 - x0) / preprocessing.columns, (y1 - y0) / preprocessing.rows)
    return PreparedImage(pixels, placement)


def _limit_distortion(
    region: BreastRegion, columns: int, rows: int, aspect: tuple[float, float]
) -> tuple[int, int, int, int]:
    narrowest, widest = aspect
    width, height = (region.x1 - region.x0) / columns, (region.y1 - region.y0) / rows
    x0, x1 = _widen(region.x0, region.x1, max(width, narrowest * height) * columns, columns)
    y0, y1 = _widen(region.y0, region.y1, max(height, width / widest) * rows, rows)
    return x0, x1, y0, y1


def _widen(start: int, stop: int, size: float, limit: int) -> tuple[int, int]:
    missing = max(round(size) - (stop - start), 0)
    start = min(max(start - missing // 2, 0), max(limit - round(size), 0)) if missing else start
    return start, min(max(stop, start + round(size)), limit)


def _breast_levels(region: BreastRegion, percentiles: tuple[float, float]) -> tuple[float, float]:
    low, high = np.percentile(region.small[region.mask], percentiles)
    return float(low), float(max(high, low + 1.0))
