"""The breast region: where the tissue is, without background, film edges and label text."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.imaging.mammogram import WHITE

# All work is done on a copy of this size. Its aspect is fixed on purpose: a mammogram stretched on its way into a
# data set then gives the same region as the original.
_ROWS, _COLUMNS = 256, 160

_MAX_FILM_EDGE = 0.06
"""Largest part of each side that may be film edge."""

_SMALLEST_BREAST = 0.04
"""A component below this part of the image is no breast; the whole image is then the region."""

_THINNEST = 0.05
"""A row or column through the breast holds at least this part of breast pixels."""

_MARGIN = 0.025
"""Kept around the region, as a part of the image's sides: the skin line fades into the background,
and lesions reach under the film's edge."""

_LEAST_ROWS = 5
"""Of breast pixels in a column of the mask that belongs to the breast's extent."""

_EDGE = 8
"""Columns of the mask at either end that are compared in height."""

_CLEARLY_TALLER = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class BreastRegion:
    """A rectangle around the breast in pixels of the file, and which pixels of a small copy are breast.

    Parameters
    ----------
    x0, y0, x1, y1
        Whole pixels, x1 and y1 exclusive.
    mask
        Shape (256, 160), ``bool``, over the WHOLE image (not only the rectangle).
    small
        The copy itself, ``uint16`` of the same shape.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    mask: NDArray[np.bool_]
    small: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class BreastExtent:
    """Where a breast lies along the rows of its image, in pixels of the file.

    Parameters
    ----------
    nipple
        The column of its foremost edge, which stands for the nipple.
    chest_wall
        The column of its other end.
    """

    nipple: float
    chest_wall: float

    @property
    def depth(self) -> float:
        """From the nipple to the chest wall in pixels of the file."""
        return abs(self.chest_wall - self.nipple)


def breast_extent(mask: NDArray[np.bool_], columns: int) -> BreastExtent | None:
    """Where nipple and chest wall lie; ``None`` where no breast with a chest wall on one side can be made out.

    The breast is tall at the chest wall and comes to a point at the nipple.

    Parameters
    ----------
    mask
        As of `BreastRegion`, over the whole image.
    columns
        Of the image in its file.
    """
    covered = np.flatnonzero(mask.sum(axis=0) >= _LEAST_ROWS)
    if len(covered) < 2 * _EDGE:
        return None
    left = int(mask[:, covered[0] : covered[0] + _EDGE].sum())
    right = int(mask[:, covered[-1] + 1 - _EDGE : covered[-1] + 1].sum())
    ends = (float(covered[0]) * columns / mask.shape[1], float(covered[-1] + 1) * columns / mask.shape[1])
    if left >= _CLEARLY_TALLER * right:
        return BreastExtent(nipple=ends[1], chest_wall=ends[0])
    if right >= _CLEARLY_TALLER * left:
        return BreastExtent(nipple=ends[0], chest_wall=ends[1])
    return None


def find_breast_region(pixels: NDArray[np.uint16]) -> BreastRegion:
    """The breast in a mammogram's pixels (`Mammogram.pixels`).

    The breast is the largest bright connected component once film edges are set aside and thin bridges to
    labels are cut. Where nothing of a breast's size is found, the region is the whole image.
    """
    rows, columns = pixels.shape
    shrunk = np.asarray(cv2.resize(pixels, (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA), np.uint16)
    small = shrunk.astype(np.float32) / np.float32(WHITE)
    top, bottom, left, right = _film_edges(small)
    inner = small[top:bottom, left:right]
    mask = np.zeros(small.shape, dtype=bool)
    mask[top:bottom, left:right] = _largest_component(inner)
    if mask.mean() < _SMALLEST_BREAST:
        return BreastRegion(0, 0, columns, rows, np.ones(small.shape, dtype=bool), shrunk)
    # Lines with only a few breast pixels are tails along the film's edge.
    ys = np.flatnonzero(mask.sum(axis=1) >= _THINNEST * _COLUMNS)
    xs = np.flatnonzero(mask.sum(axis=0) >= _THINNEST * _ROWS)
    y_margin, x_margin = _MARGIN * _ROWS, _MARGIN * _COLUMNS
    return BreastRegion(
        x0=round(max(xs[0] - x_margin, 0) * columns / _COLUMNS),
        y0=round(max(ys[0] - y_margin, 0) * rows / _ROWS),
        x1=round(min(xs[-1] + 1 + x_margin, _COLUMNS) * columns / _COLUMNS),
        y1=round(min(ys[-1] + 1 + y_margin, _ROWS) * rows / _ROWS),
        mask=mask,
        small=shrunk,
    )


def _film_edges(small: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Rows and columns (top, bottom, left, right) between which the picture lies, film edges left out.

    A line of film edge is bright along nearly its whole length, which no line through tissue and background is.
    """

    def edge(lines: NDArray[np.float32]) -> int:
        limit = int(len(lines) * _MAX_FILM_EDGE)
        bright = np.mean(lines[:limit] > 0.6, axis=1) > 0.7
        return int(np.flatnonzero(bright)[-1]) + 2 if bright.any() else 0

    rows, columns = small.shape
    return edge(small), rows - edge(small[::-1]), edge(small.T), columns - edge(small.T[::-1])


def _largest_component(inner: NDArray[np.float32]) -> NDArray[np.bool_]:
    smooth = cv2.GaussianBlur(inner, (5, 5), 0)
    as_bytes = np.clip(smooth * 255, 0, 255).astype(np.uint8)
    otsu, _ = cv2.threshold(as_bytes, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    background = float(np.percentile(as_bytes, 2))
    # Otsu separates dense tissue from the rest; fatty tissue lies well below it, film fog below that.
    threshold = background + 0.35 * max(otsu - background, 0)
    bright = (as_bytes > threshold).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return np.zeros(inner.shape, dtype=bool)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.asarray(labels == largest)
