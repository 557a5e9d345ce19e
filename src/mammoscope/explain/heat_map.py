"""`HeatMap`: how much each spot of a mammogram speaks for one finding."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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
