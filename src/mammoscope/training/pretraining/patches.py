"""Patches of prepared mammograms: around a mass, or of tissue without one (after Shen et al. 2019).

How well a network tells patches with a mass from those without.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mammoscope.evaluation.metrics import bootstrap_weights, interval_of
from mammoscope.training.data import PreparedSamples
from mammoscope.training.errors import TrainingError
from mammoscope.training.pretraining.recipe import PatchSection
from mammoscope.training.recipe import AugmentationSection
from mammoscope.training.transforms import augment

_TRIES = 40
_JITTER = 0.25
"""How far a mass may lie from the middle of its patch, as a part of the mass's side."""
_MARGIN = 1.5
"""How much larger than the patch the window is that is augmented, so that turning it brings in no black corners."""
_NO_BOXES = np.empty((0, 4))


class PatchCutter:
    """Cuts patches out of prepared mammograms."""

    def __init__(self, samples: PreparedSamples, section: PatchSection) -> None:
        self._samples = samples
        self._section = section
        self.with_mass = [index for index, boxes in enumerate(samples.boxes) if len(boxes)]
        if not self.with_mass:
            raise TrainingError("the split has no box at all: patches of masses are needed; check the data set")

    def background_centre(self, index: int, rng: np.random.Generator) -> tuple[float, float] | None:
        """(x, y) of the middle of a patch of tissue without a mass; ``None`` if none was found."""
        section = self._section
        rows, columns = self._samples.pixels[index].shape
        half = section.size / 2
        for _ in range(_TRIES):
            x, y = rng.uniform(half, columns - half), rng.uniform(half, rows - half)
            if _largest_part(self._samples.boxes[index], x, y, half) > section.clear:
                continue
            if (self.cut(index, (x, y), section.size) > 0).mean() >= section.tissue:
                return x, y
        return None

    def mass_centre(self, index: int, rng: np.random.Generator) -> tuple[float, float]:
        """(x, y) near the middle of one of an image's masses."""
        boxes = self._samples.boxes[index]
        x0, y0, x1, y1 = boxes[rng.integers(len(boxes))]
        away_x, away_y = rng.uniform(-_JITTER, _JITTER, size=2)
        return (x0 + x1) / 2 + away_x * (x1 - x0), (y0 + y1) / 2 + away_y * (y1 - y0)

    def cut(self, index: int, centre: tuple[float, float], size: int) -> NDArray[np.float32]:
        """The square of that side around a point, from 0 to 1; black outside of the picture."""
        picture = self._samples.pixels[index]
        left, top = round(centre[0] - size / 2), round(centre[1] - size / 2)
        patch = np.zeros((size, size), np.float32)
        inside = picture[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)]
        y, x = max(-top, 0), max(-left, 0)
        patch[y : y + inside.shape[0], x : x + inside.shape[1]] = inside / np.float32(np.iinfo(picture.dtype).max)
        return patch


def _largest_part(boxes: NDArray[np.float64], x: float, y: float, half: float) -> float:
    """The largest part of any box that lies in a square about (x, y)."""
    if not len(boxes):
        return 0.0
    seen = np.minimum(boxes[:, 2:], (x + half, y + half)) - np.maximum(boxes[:, :2], (x - half, y - half))
    return float((np.prod(seen.clip(min=0), axis=1) / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)).max())


class TrainingPatches(Dataset[tuple[Tensor, Tensor]]):
    """Endless patches by number, changed at random: even ones show a mass, odd ones none.

    Number and seed decide everything, so that a resumed run continues as if unbroken.
    """

    def __init__(
        self, cutter: PatchCutter, images: int, section: PatchSection, augmentation: AugmentationSection, seed: int
    ) -> None:
        self._cutter = cutter
        self._images = images
        self._section = section
        self._augmentation = augmentation
        self._seed = seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """A patch (1, size, size) and 1.0 where it shows a mass, else 0.0."""
        rng = np.random.default_rng((self._seed, number))
        shows_mass = number % 2 == 0
        index, centre = self._place(shows_mass, rng)
        size = self._section.size
        window = math.ceil(size * _MARGIN)
        changed, _, _ = augment(self._cutter.cut(index, centre, window), _NO_BOXES, self._augmentation, rng)
        start = (window - size) // 2
        patch = np.ascontiguousarray(changed[start : start + size, start : start + size])
        return torch.from_numpy(patch).unsqueeze(0), torch.tensor(float(shows_mass))

    def _place(self, shows_mass: bool, rng: np.random.Generator) -> tuple[int, tuple[float, float]]:
        if shows_mass:
            index = int(rng.choice(self._cutter.with_mass))
            return index, self._cutter.mass_centre(index, rng)
        for _ in range(_TRIES):
            index = int(rng.integers(self._images))
            if centre := self._cutter.background_centre(index, rng):
                return index, centre
        raise TrainingError(
            "no tissue without a mass was found for a background patch: make patch.size or patch.tissue smaller"
        )


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPatches:
    """The patches that a pretraining is judged by, always the same.

    Parameters
    ----------
    pixels
        Shape (n, 1, size, size).
    masses
        Shape (n,), whether each shows a mass.
    patients
        Shape (n,), whose each is.
    """

    pixels: Tensor
    masses: NDArray[np.bool_]
    patients: NDArray[np.str_]


def judged_patches(
    cutter: PatchCutter, samples: PreparedSamples, patients: list[str], section: PatchSection
) -> JudgedPatches:
    """One patch in the middle of each mass and, where there is room, as many of tissue without one from each image."""
    patches: list[NDArray[np.float32]] = []
    masses: list[bool] = []
    whose: list[str] = []
    for index, boxes in enumerate(samples.boxes):
        rng = np.random.default_rng(index)
        centres = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes]
        elsewhere = [cutter.background_centre(index, rng) for _ in range(max(len(centres), 1))]
        for place in [*centres, *filter(None, elsewhere)]:
            patches.append(cutter.cut(index, place, section.size))
            whose.append(patients[index])
        masses += [True] * len(centres) + [False] * (len(patches) - len(masses) - len(centres))
    return JudgedPatches(torch.from_numpy(np.stack(patches)).unsqueeze(1), np.array(masses), np.array(whose))


_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class PatchFigures:
    """Figures on held-out patients.

    Parameters
    ----------
    auc
        Area under the ROC curve.
    auc_interval
        95 % by bootstrap over patients; ``None`` where it is not defined.
    balanced_accuracy
        Mean of sensitivity and specificity at a probability of 0.5.
    masses, background
        How many patches there are of either kind.
    """

    auc: float
    auc_interval: tuple[float, float] | None
    balanced_accuracy: float
    masses: int
    background: int


def patch_figures(scores: NDArray[np.float64], masses: NDArray[np.bool_], patients: NDArray[np.str_]) -> PatchFigures:
    """Figures of scores (n,) against the truth (n,), resampled by patient (n,).

    The area is the part of pairs of a mass and a background in which the mass has the higher score, ties counting half
    (Mann and Whitney 1947).
    """
    ours, theirs = scores[masses], scores[~masses]
    wins = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
    _, whose = np.unique(patients, return_inverse=True)
    weights = bootstrap_weights(int(whose.max()) + 1, _RESAMPLES, seed=1)[:, whose]
    of_masses, of_background = weights[:, masses], weights[:, ~masses]
    with np.errstate(invalid="ignore"):
        resampled = (of_masses @ wins * of_background).sum(axis=1) / (of_masses.sum(axis=1) * of_background.sum(axis=1))
    return PatchFigures(
        auc=float(wins.mean()) if wins.size else float("nan"),
        auc_interval=interval_of(resampled),
        balanced_accuracy=float(((ours >= 0.5).mean() + (theirs < 0.5).mean()) / 2) if wins.size else float("nan"),
        masses=len(ours),
        background=len(theirs),
    )
