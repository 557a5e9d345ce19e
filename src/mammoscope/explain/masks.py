"""Hiding parts of a prepared mammogram: where, and what is shown in their stead."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]

_BLUR = 0.1
"""Standard deviation of the blur over the input's width.

Chosen on eight findings of the shipped model with the whole picture blurred: with 0.04 three of them kept half their
score or more, with 0.1 none (similarity 0.02 at most).
"""

_BACKGROUND = 0.02
"""Prepared pixels up to this are no tissue."""


def smooth_tissue(pixels: Pixels) -> Pixels:
    """The same breast without anything in it that a mass could be: what hidden parts are filled with.

    Each pixel of tissue becomes the mean of the tissue around it. Black would be background in the middle of a breast,
    which no network has seen, and its edges would be shapes of their own; one grey for all would be a bright mass
    in fat and a dark hole in dense tissue. The background stays as it is, and does not darken the skin.

    Parameters
    ----------
    pixels
        Shape (rows, columns), from 0 to 1 (`mammoscope.imaging.PreparedImage`).
    """
    sigma = _BLUR * pixels.shape[1]
    tissue = (pixels > _BACKGROUND).astype(np.float32)
    share = cv2.GaussianBlur(tissue, (0, 0), sigma)
    mean = cv2.GaussianBlur(pixels * tissue, (0, 0), sigma) / np.maximum(share, np.finfo(np.float32).eps)
    return np.where(tissue > 0, mean, pixels).astype(np.float32)


def random_masks(shape: tuple[int, int], *, count: int, cells: int, keep: float, seed: int) -> Iterator[Pixels]:
    """Masks as RISE makes them (Petsiuk et al. 2018): a coarse random grid, enlarged smoothly and shifted.

    Parameters
    ----------
    shape
        Rows and columns of the network's input.
    cells
        Of the grid along the longer side; cells are as square as whole numbers of them allow.
    keep
        Probability that a cell is shown.

    Yields
    ------
    ndarray
        Shape (rows, columns), ``float32``: 1 where the picture is shown, 0 where it is hidden.
    """
    rng = np.random.default_rng(seed)
    rows, columns = shape
    side = max(shape) / cells
    down, across = max(1, round(rows / side)), max(1, round(columns / side))
    height, width = -(-rows // down), -(-columns // across)
    # One cell more than fits in each direction, for the shift.
    size = ((across + 1) * width, (down + 1) * height)
    for _ in range(count):
        grid = (rng.random((down + 1, across + 1)) < keep).astype(np.float32)
        top, left = int(rng.integers(height)), int(rng.integers(width))
        enlarged = cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR)
        yield np.asarray(enlarged[top : top + rows, left : left + columns], np.float32)
