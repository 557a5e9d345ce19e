"""Random changes of prepared mammograms and their boxes, on the device that learns.

What is random is drawn on the host, image by image, so that a resumed run draws what an unbroken one would have;
the pixels of a whole batch are then changed together. Boxes move by the matrices that move the pixels.

Copy-paste (Ghiasi et al. 2021) for masses: one more mass in the breast, blended into its tissue.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

from mammoscope.detectors.extensions import ExtensionError, ExtensionPoint, built
from mammoscope.training.recipe import AugmentationSection, OwnAugmentation

_KEPT_PART = 0.4
"""A box cut by the picture's edge stays when at least this part of it is left."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What happens to one picture; neutral values leave it as it is.

    Parameters
    ----------
    matrix
        Shape (2, 3), on edge coordinates in pixels of the picture; ``None`` where nothing moves.
    exponent, contrast, brightness
        Of gamma; factors about the picture's mean and about black.
    curve
        Shape (4,): rises of a tone curve in each fourth of the range; they sum to 1.
    blur
        Standard deviation in pixels, 0 for none.
    sharpen_radius, sharpen_strength
        Of unsharp masking, the radius as a standard deviation in pixels.
    noise, noise_seed
        Standard deviation, pixels from 0 to 1, and what it is drawn from.
    """

    matrix: NDArray[np.float64] | None
    exponent: float = 1.0
    curve: NDArray[np.float64] | None = None
    contrast: float = 1.0
    brightness: float = 1.0
    blur: float = 0.0
    sharpen_radius: float = 1.0
    sharpen_strength: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0


def draw_change(shape: tuple[int, ...], section: AugmentationSection, rng: np.random.Generator) -> Change:
    """A change of a picture of shape (rows, columns), as a recipe allows."""
    matrix = _random_affine(shape, section, rng)
    exponent = math.exp(rng.uniform(-1, 1) * math.log1p(section.gamma))
    contrast = 1 + rng.uniform(-1, 1) * section.contrast
    brightness = 1 + rng.uniform(-1, 1) * section.brightness
    curve = None
    if section.curve:
        rises = np.exp(rng.uniform(-1, 1, _PARTS) * math.log1p(section.curve))
        curve = rises / rises.sum()
    blur = rng.uniform(0, section.blur) if section.blur else 0.0
    radius, strength = (rng.uniform(1, 4), rng.uniform(0, section.sharpen)) if section.sharpen else (1.0, 0.0)
    noise, seed = (rng.uniform(0, section.noise), int(rng.integers(2**62))) if section.noise else (0.0, 0)
    blur = blur if blur > _LEAST_BLUR else 0.0
    return Change(matrix, exponent, curve, contrast, brightness, blur, radius, strength, noise, seed)


_PARTS = 4
"""Of a tone curve."""
_LEAST_BLUR = 0.3
"""A narrower blur changes nothing worth its time."""


def move_boxes(
    boxes: NDArray[np.float64], change: Change, shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The boxes (k, 4) still in the changed picture, and which of the given ones (n, 4) they are (n,)."""
    if change.matrix is None:
        return boxes, np.ones(len(boxes), dtype=bool)
    return _move(boxes, change.matrix, shape)


@dataclass(frozen=True, slots=True, eq=False)
class OwnChange:
    """An augmentation of another package (`mammoscope.training.recipe.OwnAugmentation`)."""

    name: str
    function: Callable[..., Any]

    @classmethod
    def of(cls, section: OwnAugmentation) -> "OwnChange":
        """Import it; raises `ExtensionError`."""
        return cls(section.use, built(ExtensionPoint.AUGMENTATION, section.use, **section.options))

    @torch.no_grad()
    def change(
        self, pixels: Tensor, targets: Sequence[dict[str, Tensor]], draws: Sequence[np.random.Generator]
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Pictures (b, rows, columns) and their targets, changed one by one.

        Raises
        ------
        ExtensionError
            If it fails, or gives another picture's shape or number of boxes.
        """
        changed = [self._one(*given) for given in zip(pixels, targets, draws, strict=True)]
        return torch.stack([picture for picture, _ in changed]).clamp(0, 1), [target for _, target in changed]

    def _one(
        self, picture: Tensor, target: dict[str, Tensor], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            moved, boxes = self.function(picture.clone(), target["boxes"].numpy().astype(np.float64), rng)
            boxes = np.asarray(boxes, dtype=np.float32)
        except Exception as error:
            raise ExtensionError(f"the augmentation {self.name} failed with {type(error).__name__}: {error}") from error
        if moved.shape != picture.shape or boxes.shape != tuple(target["boxes"].shape):
            raise ExtensionError(
                f"the augmentation {self.name} has to give a picture of the same shape and as many boxes: of "
                f"{tuple(picture.shape)} and {len(target['boxes'])} it made {tuple(moved.shape)} and {len(boxes)}"
            )
        rows, columns = picture.shape
        boxes = np.clip(boxes, 0, np.array([columns, rows, columns, rows], dtype=np.float32))
        large = np.all(boxes[:, 2:] - boxes[:, :2] >= 1, axis=1)
        return moved.to(picture), {"boxes": torch.from_numpy(boxes[large]), "labels": target["labels"][large]}


@torch.no_grad()
def change_pixels(pixels: Tensor, changes: Sequence[Change]) -> Tensor:
    """Pictures changed, each as its change says.

    Parameters
    ----------
    pixels
        Shape (b, rows, columns), from 0 to 1, on any device.

    Returns
    -------
    Tensor
        Of the same shape, from 0 to 1.
    """
    if any(change.matrix is not None for change in changes):
        pixels = _warp(pixels, [change.matrix for change in changes])
    per_picture = _PerPicture(pixels, changes)
    if any(change.exponent != 1 for change in changes):
        pixels = pixels.pow(per_picture("exponent"))
    if any(change.curve is not None for change in changes):
        pixels = _bend(pixels, [change.curve for change in changes])
    if any(change.contrast != 1 for change in changes):
        mean = pixels.mean(dim=(1, 2), keepdim=True)
        pixels = (pixels - mean) * per_picture("contrast") + mean
    if any(change.brightness != 1 for change in changes):
        pixels = pixels * per_picture("brightness")
    if any(change.blur for change in changes):
        pixels = _blurred(pixels, [change.blur for change in changes])
    if any(change.sharpen_strength for change in changes):
        fine = pixels - _blurred(pixels, [change.sharpen_radius for change in changes])
        pixels = pixels + per_picture("sharpen_strength") * fine
    if any(change.noise for change in changes):
        pixels = pixels + per_picture("noise") * _noise(pixels, changes)
    return pixels.clamp(0, 1)


class _PerPicture:
    """A number of each change as a tensor (b, 1, 1) beside its picture."""

    def __init__(self, pixels: Tensor, changes: Sequence[Change]) -> None:
        self._pixels, self._changes = pixels, changes

    def __call__(self, name: str) -> Tensor:
        values = torch.tensor([getattr(change, name) for change in self._changes], dtype=torch.float32)
        return values.view(-1, 1, 1).to(self._pixels.device, non_blocking=True)


def augment(
    pixels: NDArray[np.float32],
    boxes: NDArray[np.float64],
    section: AugmentationSection,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """One changed picture (rows, columns), its boxes (k, 4) and which of those given (n, 4) are still in it (n,)."""
    change = draw_change(pixels.shape, section, rng)
    moved, kept = move_boxes(boxes, change, pixels.shape)
    (changed,) = change_pixels(torch.from_numpy(np.ascontiguousarray(pixels))[None], [change])
    return changed.numpy(), moved, kept


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


def _warp(pixels: Tensor, matrices: Sequence[NDArray[np.float64] | None]) -> Tensor:
    """Bilinear, black beyond the edge."""
    rows, columns = pixels.shape[1:]
    # grid_sample's coordinates run from -1 at one edge to 1 at the other and lead back, from the result to the picture.
    to_edges = np.array([[columns / 2, 0, columns / 2], [0, rows / 2, rows / 2], [0, 0, 1]])
    back = [
        np.linalg.inv(to_edges) @ np.linalg.inv(np.vstack([matrix, [0, 0, 1]])) @ to_edges
        for matrix in (np.eye(3)[:2] if given is None else given for given in matrices)
    ]
    theta = torch.from_numpy(np.stack(back)[:, :2].astype(np.float32)).to(pixels.device, non_blocking=True)
    grid = affine_grid(theta, [len(pixels), 1, rows, columns], align_corners=False)
    return grid_sample(pixels[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]


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


def _bend(pixels: Tensor, curves: Sequence[NDArray[np.float64] | None]) -> Tensor:
    """A rising curve through black and white, as films and vendors differ in theirs."""
    even = np.full(_PARTS, 1 / _PARTS)
    rises = torch.from_numpy(np.stack([even if curve is None else curve for curve in curves]).astype(np.float32))
    rises = rises.to(pixels.device, non_blocking=True)[..., None, None]
    scaled = pixels * _PARTS
    bent = torch.zeros_like(pixels)
    for part in range(_PARTS):
        bent.addcmul_((scaled - part).clamp_(0, 1), rises[:, part])
    return bent


def _blurred(pixels: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Gaussian blur of each picture with its own standard deviation, 0 for none; edges are mirrored."""
    rows, columns = pixels.shape[1:]
    radius = min(max(_radius(sigma) for sigma in sigmas), rows - 1, columns - 1)
    offsets = np.arange(-radius, radius + 1)
    weights = np.stack([_gaussian(offsets, sigma) for sigma in sigmas]).astype(np.float32)
    kernels = torch.from_numpy(weights).to(pixels.device, non_blocking=True)[:, None]
    pictures = len(pixels)
    blurred = pad(pixels[None], (radius, radius, radius, radius), mode="reflect")
    blurred = conv2d(blurred, kernels[:, :, None, :], groups=pictures)
    return conv2d(blurred, kernels[:, :, :, None], groups=pictures)[0]


def _radius(sigma: float) -> int:
    """OpenCV's for pixels in floating point: four standard deviations."""
    return round(sigma * 8 + 1) // 2


def _gaussian(offsets: NDArray[np.int64], sigma: float) -> NDArray[np.float64]:
    weights = np.zeros(offsets.shape)
    if sigma:
        weights[:] = np.where(np.abs(offsets) <= _radius(sigma), np.exp(-0.5 * (offsets / sigma) ** 2), 0.0)
    else:
        weights[offsets == 0] = 1.0
    weights /= weights.sum()
    return weights


def _noise(pixels: Tensor, changes: Sequence[Change]) -> Tensor:
    """Standard normal, each picture from its own seed: whatever else is in the batch, it gets the same."""
    drawn = torch.empty_like(pixels)
    generator = torch.Generator(pixels.device)
    for picture, change in zip(drawn, changes, strict=True):
        torch.randn(picture.shape, generator=generator.manual_seed(change.noise_seed), out=picture)
    return drawn


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


@dataclass(frozen=True, slots=True, eq=False)
class Pasted:
    """A mass blended into a picture: what the picture shows from ``top`` and ``left`` on, and the mass's box (4,)."""

    top: int
    left: int
    pixels: NDArray[np.float32]
    box: NDArray[np.float64]

    def onto(self, picture: Tensor) -> None:
        """Change a picture (rows, columns) accordingly."""
        rows, columns = self.pixels.shape
        patch = torch.from_numpy(np.ascontiguousarray(self.pixels)).to(picture.device, non_blocking=True)
        picture[self.top : self.top + rows, self.left : self.left + columns] = patch


def paste_mass(
    pixels: NDArray[np.float32], boxes: NDArray[np.float64], donor: Donor, rng: np.random.Generator
) -> Pasted | None:
    """The donor's mass at a random place of a picture's breast, clear of the boxes there.

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
            return Pasted(top, left, _blend(place, patch, window), box)
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


def _blend(place: NDArray[np.float32], patch: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.float32]:
    # Only the rim is compared: the mass itself has to stay brighter than what it replaces.
    rim = window < 0.5
    shift = place[rim].mean() - patch[rim].mean()
    return np.asarray(np.clip(place * (1 - window) + (patch + shift) * window, 0, 1), dtype=np.float32)


def _touches(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> bool:
    overlaps = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    return bool(np.any(np.all(overlaps > 0, axis=1)))
