"""Images that are nearly the same, also mirrored or turned, found among many without comparing each with each.

A perceptual hash of 64 bits (signs of the lowest frequencies of the cosine transform) finds candidates: two hashes
that differ in seven bits or fewer have at least one of their eight bytes in common (multi-index hashing, Norouzi et
al., CVPR 2012). A candidate counts when the thumbnails correlate, as a whole and in their detail: two breasts of one
shape agree in the former, one exposure in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_BITS = 7
_WHOLE, _DETAIL = 0.97, 0.9
_FEWEST = 0.1  # share of the thumbnail that must be picture

_TURNS: dict[str | None, tuple[int, int]] = {
    None: (1, 1),
    "mirrored left to right": (1, -1),
    "mirrored top to bottom": (-1, 1),
    "turned by 180 degrees": (-1, -1),
}
"""Steps along rows and columns."""

_ONES = np.array([int(n).bit_count() for n in range(256)], np.uint8)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures, by their positions, that look alike once the second is ``turned``."""

    first: int
    second: int
    turned: str | None
    correlation: float


def near_duplicates(pictures: Sequence[NDArray[np.uint8]]) -> list[Pair]:
    """Pairs of thumbnails, all of one square shape, that show one exposure; each pair once, as it fits best."""
    if len(pictures) < 2:
        return []
    upright = _hashes(pictures, None)
    best: dict[tuple[int, int], Pair] = {}
    for turned in _TURNS:
        other = upright if turned is None else _hashes(pictures, turned)
        for first, second in _candidates(upright, other):
            known = best.get((first, second))
            correlation = _alike(pictures[first], _turn(pictures[second], turned))
            if correlation is not None and (known is None or correlation > known.correlation):
                best[first, second] = Pair(first, second, turned, correlation)
    return [best[key] for key in sorted(best)]


def _hashes(pictures: Sequence[NDArray[np.uint8]], turned: str | None) -> NDArray[np.uint8]:
    """Shape (pictures, 8)."""
    found = np.empty((len(pictures), 8), np.uint8)
    for n, picture in enumerate(pictures):
        small = cv2.resize(_turn(picture, turned), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        low = cv2.dct(small)[1:9, 1:9].ravel()
        found[n] = np.packbits(low > np.median(low))
    return found


def _turn(picture: NDArray[np.uint8], turned: str | None) -> NDArray[np.uint8]:
    down, right = _TURNS[turned]
    return np.ascontiguousarray(picture[::down, ::right])


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


def _alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float | None:
    """The correlation of their detail, where both it and that of the whole say one exposure."""
    a, b = one.astype(np.float32), other.astype(np.float32)
    there = (a > 12) | (b > 12)
    if there.mean() < _FEWEST or _correlation(a, b) < _WHOLE:
        return None
    inside = cv2.erode(there.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # the skin line is alike in many
    if inside.sum() < 30:
        return None
    detail = _correlation(*((x - cv2.GaussianBlur(x, (0, 0), 4))[inside] for x in (a, b)))
    return detail if detail >= _DETAIL else None


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
