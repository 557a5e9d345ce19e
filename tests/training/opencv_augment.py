"""Random changes of one picture by NumPy and OpenCV, as they were: what batched ones on a device must equal.

Copy-paste (Ghiasi et al. 2021) for masses: one more mass in the breast, blended into its tissue.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.training.recipe import AugmentationSection

_KEPT_PART = 0.4
"""A box cut by the picture's edge stays when at least this part of it is left."""


def augment(
    pixels: NDArray[np.float32],
    boxes: NDArray[np.float64],
    section: AugmentationSection,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """A changed picture, its boxes, and which of them are still in it.

    Parameters
    ----------
    pixels
        Shape (rows, columns), from 0 to 1.
    boxes
        Shape (n, 4): x0, y0, x1, y1 in pixels of the picture, edges.

    Returns
    -------
    pixels
        Of the same shape.
    boxes
        Shape (k, 4), only those kept.
    kept
        Shape (n,), which of the given boxes they are.
    """
    matrix = _random_affine(pixels.shape, section, rng)
    if matrix is not None:
        pixels = _warp(pixels, matrix)
        boxes, kept = _move(boxes, matrix, pixels.shape)
    else:
        kept = np.ones(len(boxes), dtype=bool)
    return _change_intensity(pixels, section, rng), boxes, kept


def _random_affine(
    shape: tuple[int, ...], section: AugmentationSection, rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """A 2 x 3 matrix on edge coordinates about the picture's middle, or ``None`` where nothing moves."""
    rows, columns = shape
    zoom = math.exp(rng.uniform(math.log(section.zoom[0]), math.log(section.zoom[1])))
    aspect = math.exp(rng.uniform(-1, 1) * math.log1p(section.aspect) / 2)
    angle = math.radians(rng.uniform(-1, 1) * section.rotation_degrees)
    flip_x = -1 if rng.random() < section.horizontal_flip else 1
    flip_y = -1 if rng.random() < section.vertical_flip else 1
    shift = rng.uniform(-1, 1, size=2) * section.shift * (columns, rows)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = rotation @ np.diag([flip_x * zoom * aspect, flip_y * zoom / aspect])
    if np.array_equal(linear, np.eye(2)) and not shift.any():
        return None
    middle = np.array([columns / 2, rows / 2])
    return np.column_stack([linear, middle + shift - linear @ middle])


def _warp(pixels: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    # OpenCV's coordinates are pixel centres, half a pixel from edges.
    centres = matrix.copy()
    centres[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    rows, columns = pixels.shape
    warped = cv2.warpAffine(pixels, centres, (columns, rows), flags=cv2.INTER_LINEAR, borderValue=0)
    return warped.astype(np.float32, copy=False)


def _move(
    boxes: NDArray[np.float64], matrix: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes around the ellipses in the given boxes: a turned mass fills its box no more than a straight one."""
    rows, columns = shape
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    halves = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (matrix[:, :2].T ** 2))
    moved = np.concatenate([centres - halves, centres + halves], axis=1)
    clipped = np.clip(moved, 0, (columns, rows, columns, rows))
    kept = _area(clipped) >= _KEPT_PART * _area(moved)
    return clipped[kept], kept


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))


def _change_intensity(
    pixels: NDArray[np.float32], section: AugmentationSection, rng: np.random.Generator
) -> NDArray[np.float32]:
    exponent = math.exp(rng.uniform(-1, 1) * math.log1p(section.gamma))
    contrast = 1 + rng.uniform(-1, 1) * section.contrast
    brightness = 1 + rng.uniform(-1, 1) * section.brightness
    if section.gamma:
        pixels = np.power(pixels, exponent, dtype=np.float32)
    if section.curve:
        pixels = _bend(pixels, section.curve, rng)
    if section.contrast:
        mean = np.float32(pixels.mean())
        pixels = (pixels - mean) * np.float32(contrast) + mean
    if section.brightness:
        pixels = pixels * np.float32(brightness)
    if section.blur and (sigma := rng.uniform(0, section.blur)) > 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), sigma).astype(np.float32, copy=False)
    if section.sharpen:
        pixels = _sharpened(pixels, section.sharpen, rng)
    if section.noise:
        sigma = rng.uniform(0, section.noise)
        pixels = pixels + np.float32(sigma) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.asarray(np.clip(pixels, 0, 1), dtype=np.float32)


_KNOTS = 5


def _bend(pixels: NDArray[np.float32], change: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random rising curve through black and white, as films and vendors differ in theirs."""
    rises = np.exp(rng.uniform(-1, 1, _KNOTS - 1) * math.log1p(change))
    heights = np.concatenate([[0.0], np.cumsum(rises) / rises.sum()])
    return np.asarray(np.interp(pixels, np.linspace(0, 1, _KNOTS), heights), dtype=np.float32)


def _sharpened(pixels: NDArray[np.float32], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Unsharp masking, as digital systems process their images; the radius is drawn, too."""
    sigma = rng.uniform(1, 4)
    fine = pixels - cv2.GaussianBlur(pixels, (0, 0), sigma)
    return np.asarray(pixels + np.float32(rng.uniform(0, strength)) * fine, dtype=np.float32)


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
