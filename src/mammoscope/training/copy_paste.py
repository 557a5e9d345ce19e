"""Copy-paste (Ghiasi et al. 2021) for masses: one more mass in the breast, blended into its tissue."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_MARGIN = 1.5
"""Side of what is copied over the side of the mass: its spicules and halo come along."""
_TRIES = 10
_TISSUE = (0.08, 0.97)
"""Pixels darker or brighter count as air, film or its edge."""


@dataclass(frozen=True, slots=True, eq=False)
class Donor:
    """A mass to copy: its picture (rows, columns) from 0 to 1 and its box (4,) there."""

    pixels: NDArray[np.float32]
    box: NDArray[np.float64]


def paste_mass(
    pixels: NDArray[np.float32], boxes: NDArray[np.float64], donor: Donor, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]] | None:
    """The picture with the donor's mass at a random place of the breast, clear of the boxes there, and its box (4,).

    The mass is turned by quarter turns and flips, scaled a little, faded out around its ellipse, and shifted in
    brightness to the tissue that receives it. ``None`` where no place was found.
    """
    patch, window, size = _copy(donor, rng)
    rows, columns = patch.shape
    if rows >= pixels.shape[0] or columns >= pixels.shape[1] or not _is_tissue(patch, window):
        return None
    for _ in range(_TRIES):
        top = int(rng.integers(0, pixels.shape[0] - rows))
        left = int(rng.integers(0, pixels.shape[1] - columns))
        place = pixels[top : top + rows, left : left + columns]
        box = np.array([left + (columns - size[0]) / 2, top + (rows - size[1]) / 2] * 2)
        box[2:] += size
        if _is_tissue(place, window) and not _touches(box, boxes):
            return _blend(pixels, (top, left), patch, window), box
    return None


def _is_tissue(pixels: NDArray[np.float32], window: NDArray[np.float32]) -> bool:
    """Whether the rim lies in tissue; a mass itself may be as bright as it likes."""
    rim = pixels[window < 0.5]
    return bool(np.mean((rim > _TISSUE[0]) & (rim < _TISSUE[1])) > 0.95)


def _copy(
    donor: Donor, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """The mass with its margin, the weight of each pixel, and the mass's own width and height."""
    middle, size = (donor.box[:2] + donor.box[2:]) / 2, donor.box[2:] - donor.box[:2]
    # Odd sides: the mass stays in the middle when the patch is turned.
    width, height = (2 * int(side * _MARGIN * rng.uniform(0.8, 1.2) / 2) + 1 for side in size)
    # From the donor's picture to the patch; beyond the picture's edge its last pixels repeat.
    scale = np.array([width, height]) / (size * _MARGIN)
    matrix = np.column_stack([np.diag(scale), np.array([width, height]) / 2 - scale * middle])
    matrix[:, 2] += scale * 0.5 - 0.5
    patch = cv2.warpAffine(donor.pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    patch = np.rot90(patch, int(rng.integers(4)))
    patch = patch[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    rows, columns = patch.shape
    y, x = np.mgrid[0:rows, 0:columns]
    # 1 at the ellipse in the patch, 1 / _MARGIN at the ellipse in the mass's box.
    radius = np.hypot((x - (columns - 1) / 2) / (columns / 2), (y - (rows - 1) / 2) / (rows / 2))
    fade = np.clip((1 - radius) / (1 - 1 / _MARGIN), 0, 1)
    window = (0.5 - 0.5 * np.cos(np.pi * fade)).astype(np.float32)
    return np.asarray(patch, dtype=np.float32), window, np.array([columns, rows]) / _MARGIN


def _blend(
    pixels: NDArray[np.float32],
    corner: tuple[int, int],
    patch: NDArray[np.float32],
    window: NDArray[np.float32],
) -> NDArray[np.float32]:
    rows = slice(corner[0], corner[0] + patch.shape[0])
    columns = slice(corner[1], corner[1] + patch.shape[1])
    place = pixels[rows, columns]
    # Only the rim is compared: the mass itself has to stay brighter than what it replaces.
    rim = window < 0.5
    shift = place[rim].mean() - patch[rim].mean()
    changed = pixels.copy()
    changed[rows, columns] = np.clip(place * (1 - window) + (patch + shift) * window, 0, 1)
    return changed


def _touches(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> bool:
    overlaps = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    return bool(np.any(np.all(overlaps > 0, axis=1)))
