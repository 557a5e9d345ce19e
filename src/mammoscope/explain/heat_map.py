"""`HeatMap`: how much each spot of a mammogram speaks for one finding.

How alike two maps are.

Why a finding cannot be explained.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.errors import MammoscopeError
from mammoscope.imaging import Placement

NOISY = 0.7
"""A map whose `HeatMap.agreement` is below this is called noisy."""


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """How much each spot of a prepared mammogram speaks for one finding.

    Parameters
    ----------
    values
        Shape (rows, columns), ``float32``, in pixels of the network's input; above 0 speaks for the finding, below 0
        against it.
    placement
        Where the network's input lies in the mammogram.
    method
        What made it, with the settings that decide its values.
    meaning
        What a value says, in a few words.
    agreement
        How well the map would agree with another one made alike from other random masks: their expected correlation,
        at most 1. ``None`` where nothing was drawn at random.
    """

    values: NDArray[np.float32]
    placement: Placement
    method: str
    meaning: str
    agreement: float | None = None

    @property
    def peak(self) -> float:
        """The highest value, 0 where nothing speaks for the finding."""
        return max(float(self.values.max()), 0.0)

    @property
    def noisy(self) -> bool:
        """Whether chance has too large a part in it."""
        return self.agreement is not None and self.agreement < NOISY

    def on_file(self, rows: int, columns: int) -> NDArray[np.float32]:
        """The map in pixels of the mammogram's file, 0 where the network saw nothing.

        Parameters
        ----------
        rows, columns
            Size of the mammogram.
        """
        height, width = self.values.shape
        left, top = round(self.placement.left), round(self.placement.top)
        right = min(left + round(width * self.placement.x_scale), columns)
        bottom = min(top + round(height * self.placement.y_scale), rows)
        whole = np.zeros((rows, columns), np.float32)
        whole[top:bottom, left:right] = cv2.resize(
            self.values, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
        )
        return whole


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


class ExplainError(MammoscopeError):
    """A finding that is not there, or a model that the method asked for cannot explain."""
