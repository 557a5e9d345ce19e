"""Images that are nearly the same, also mirrored or turned, found among many without comparing each with each.

A perceptual hash of 64 bits (signs of the lowest frequencies of the cosine transform) finds candidates: two hashes
that differ in seven bits or fewer have at least one of their eight bytes in common (multi-index hashing, Norouzi et
al., CVPR 2012). A candidate counts when the thumbnails correlate, as a whole and in the detail of the breast: two
breasts of one shape agree in the former, one exposure in both. Film edges and labels are left aside for the latter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.datasets.audit.measures import Measures

_BITS = 7
_WHOLE, _DETAIL = 0.95, 0.85  # of 1592 films of 892 women no two have a detail of more than 0.71
_SMOOTH = 4.0  # standard deviation in pixels of the thumbnail; what is finer is detail
_FEWEST = 60  # pixels of the thumbnail within both breasts

_TURNS: dict[str | None, tuple[int, int]] = {
    None: (1, 1),
    "mirrored left to right": (1, -1),
    "mirrored top to bottom": (-1, 1),
    "turned by 180 degrees": (-1, -1),
}
"""Steps along rows and columns."""

_ONES = np.array([int(n).bit_count() for n in range(256)], np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnail:
    """A picture and where the breast is in it, both of one square shape."""

    picture: NDArray[np.uint8]
    breast: NDArray[np.bool_]

    def turned(self, how: str | None) -> "Thumbnail":
        """Mirrored or turned."""
        down, right = _TURNS[how]
        picture, breast = self.picture[::down, ::right], self.breast[::down, ::right]
        return Thumbnail(np.ascontiguousarray(picture), np.ascontiguousarray(breast))

    @classmethod
    def of(cls, measures: Measures) -> "Thumbnail":
        """That of a measured file."""
        mask = measures.breast_mask.astype(np.uint8)
        picture = measures.picture
        return cls(picture, cv2.resize(mask, picture.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures, by their positions, that look alike once the second is ``turned``."""

    first: int
    second: int
    turned: str | None
    correlation: float


def near_duplicates(files: Sequence[Measures]) -> list[Pair]:
    """Pairs of measured files that show one exposure; each pair once, as it fits best.

    Their thumbnails are unpacked one by one, so that there may be many.
    """
    if len(files) < 2:
        return []
    upright = _hashes(files, None)
    best: dict[tuple[int, int], Pair] = {}
    for how in _TURNS:
        other = upright if how is None else _hashes(files, how)
        for first, second in _candidates(upright, other):
            known = best.get((first, second))
            correlation = _alike(Thumbnail.of(files[first]), Thumbnail.of(files[second]).turned(how))
            if correlation is not None and (known is None or correlation > known.correlation):
                best[first, second] = Pair(first, second, how, correlation)
    return [best[key] for key in sorted(best)]


def _hashes(files: Sequence[Measures], how: str | None) -> NDArray[np.uint8]:
    """Shape (files, 8)."""
    down, right = _TURNS[how]
    found = np.empty((len(files), 8), np.uint8)
    for n, measures in enumerate(files):
        picture = np.ascontiguousarray(measures.picture[::down, ::right])
        small = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        low = cv2.dct(small)[1:9, 1:9].ravel()
        found[n] = np.packbits(low > np.median(low))
    return found


def _candidates(upright: NDArray[np.uint8], other: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Pairs (first < second) whose hashes differ in `_BITS` bits or fewer."""
    found: set[tuple[int, int]] = set()
    for byte in range(upright.shape[1]):
        order = np.argsort(other[:, byte], kind="stable")
        starts = np.searchsorted(other[order, byte], np.arange(257))
        for first in range(len(upright)):
            value = int(upright[first, byte])
            bucket = order[starts[value] : starts[value + 1]]
            bucket = bucket[bucket > first]
            if len(bucket):
                distance = _ONES[other[bucket] ^ upright[first]].sum(axis=1)
                found.update((first, int(second)) for second in bucket[distance <= _BITS])
    return sorted(found)


def _alike(one: Thumbnail, other: Thumbnail) -> float | None:
    """The correlation of their detail, where both it and that of the whole say one exposure."""
    a, b = one.picture.astype(np.float32), other.picture.astype(np.float32)
    if _correlation(a, b) < _WHOLE:
        return None
    both = (one.breast & other.breast).astype(np.uint8)
    inside = cv2.erode(both, np.ones((5, 5), np.uint8), borderValue=0) > 0  # skin lines and film edges are alike
    if inside.sum() < _FEWEST:
        return None
    detail = _correlation(_detail(a, one.breast)[inside], _detail(b, other.breast)[inside])
    return detail if detail >= _DETAIL else None


def _detail(picture: NDArray[np.float32], breast: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What is finer than `_SMOOTH`, as if there were nothing beside the breast."""
    weight = breast.astype(np.float32)
    smooth = cv2.GaussianBlur(picture * weight, (0, 0), _SMOOTH)
    of_breast = np.maximum(cv2.GaussianBlur(weight, (0, 0), _SMOOTH), 1e-3)
    return np.asarray(picture - smooth / of_breast)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
