"""Whether the network really needs what a map shows: deletion and insertion (Petsiuk et al. 2018)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.explain.drise import Similarity
from mammoscope.explain.masks import Pixels, smooth_tissue

_STEPS = 10


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Areas under the curves of similarity over the share of pixels, where the whole picture's similarity is 1.

    Parameters
    ----------
    deletion
        Pixels are hidden, those with the highest values first: low where the map is faithful.
    insertion
        Pixels are shown, those with the highest values first: high where the map is faithful.
    """

    deletion: float
    insertion: float


def faithfulness(values: NDArray[np.floating], pixels: Pixels, similarity: Similarity, seed: int = 0) -> Faithfulness:
    """Deletion and insertion of one map.

    Hidden pixels are filled as D-RISE fills them. The shares grow with the square of the step, 1 % first, for
    a mass is a small part of a mammogram.

    Parameters
    ----------
    values, pixels
        The map and the prepared picture, both of shape (rows, columns).
    similarity
        To one finding, or to several of which the first counts.
    seed
        Decides which of several pixels with the same value goes first.
    """
    filling = smooth_tissue(pixels)
    tie = np.random.default_rng(seed).permutation(values.size)
    order = np.lexsort((tie, -values.ravel()))
    place: NDArray[np.intp] = np.argsort(order).reshape(values.shape)
    whole, nothing = float(similarity(pixels)[0]), float(similarity(filling)[0])
    shares = [(step / _STEPS) ** 2 for step in range(_STEPS + 1)]
    deleted, inserted = [whole], [nothing]
    for share in shares[1:-1]:
        first = place < round(share * values.size)
        deleted.append(float(similarity(np.where(first, filling, pixels))[0]))
        inserted.append(float(similarity(np.where(first, pixels, filling))[0]))
    deleted.append(nothing)
    inserted.append(whole)
    if whole <= 0:
        return Faithfulness(0.0, 0.0)
    return Faithfulness(_area(shares, deleted) / whole, _area(shares, inserted) / whole)


def _area(x: list[float], y: list[float]) -> float:
    return sum((b - a) * (c + d) / 2 for a, b, c, d in zip(x, x[1:], y, y[1:], strict=False))
