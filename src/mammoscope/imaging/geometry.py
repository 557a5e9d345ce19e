"""Where a prepared picture lies in its mammogram, and the way back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Placement:
    """An axis-parallel map from picture to file coordinates: ``x_file = left + x_picture * x_scale``, y alike.

    Coordinates are edges, not pixel centres, so a picture that covers its source exactly has ``left = top = 0``.
    """

    left: float
    top: float
    x_scale: float
    y_scale: float

    def to_file(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Boxes of shape (n, 4), x0 y0 x1 y1, from picture to file coordinates."""
        return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * self._scales + self._offsets

    def to_picture(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Boxes of shape (n, 4), x0 y0 x1 y1, from file to picture coordinates."""
        return (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) - self._offsets) / self._scales

    @property
    def _scales(self) -> NDArray[np.float64]:
        return np.array([self.x_scale, self.y_scale, self.x_scale, self.y_scale])

    @property
    def _offsets(self) -> NDArray[np.float64]:
        return np.array([self.left, self.top, self.left, self.top])
