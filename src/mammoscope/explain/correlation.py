"""How alike two maps are."""

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating]

SAME_MAP = 0.5
"""Two maps with this correlation or more, of values or of ranks, show the same.

A map that correlates so with that of a network of shuffled weights shows the picture, not what the network learned.
"""


def correlation(one: Map, other: Map) -> float:
    """Pearson's correlation of two maps of the same shape; 0 where either has one value throughout."""
    a, b = (np.asarray(values, np.float64).ravel() - np.mean(values, dtype=np.float64) for values in (one, other))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def rank_correlation(one: Map, other: Map) -> float:
    """Spearman's correlation of two maps of the same shape, equal values sharing their mean rank."""
    return correlation(_ranks(one), _ranks(other))


def _ranks(values: Map) -> Map:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean_rank = last - (count - 1) / 2
    return np.asarray(mean_rank[place.ravel()], np.float64)
