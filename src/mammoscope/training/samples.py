"""From an annotated data set to batches: every mammogram prepared once, changed anew each time it is seen."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mammoscope.datasets import AnnotatedDataset
from mammoscope.imaging import InputGeometry, PreparedImage, prepare, read_mammogram
from mammoscope.training.augment import augment
from mammoscope.training.checkpoint import write_atomically
from mammoscope.training.copy_paste import Donor, paste_mass
from mammoscope.training.errors import TrainingError
from mammoscope.training.recipe import AugmentationSection

_LEVELS = 65535


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSamples:
    """Prepared mammograms in memory, with their boxes.

    Parameters
    ----------
    pixels
        Each of shape (rows, columns), ``uint16``: `PreparedImage.pixels` times 65535, mapped from disk.
    boxes
        Per image (k, 4) in pixels of the input.
    labels
        Per image (k,), class indices.
    """

    pixels: Sequence[NDArray[np.uint16]] | NDArray[np.uint16]
    boxes: list[NDArray[np.float64]]
    labels: list[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.boxes)

    def only(self, indices: Sequence[int]) -> "PreparedSamples":
        """Those alone; nothing is copied."""
        return PreparedSamples(
            [self.pixels[index] for index in indices],
            [self.boxes[index] for index in indices],
            [self.labels[index] for index in indices],
        )


def prepare_samples(
    dataset: AnnotatedDataset,
    classes: tuple[str, ...],
    geometry: InputGeometry,
    cache: Path,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PreparedSamples:
    """Every mammogram of a data set as the network sees it, prepared once and kept in ``cache``.

    Raises
    ------
    TrainingError
        If a box's label is not among the recipe's classes.
    MammogramError
        If a mammogram cannot be read.
    """
    check_labels(dataset, classes)
    key = hashlib.sha256(json.dumps([dataset.fingerprint(), repr(geometry)]).encode()).hexdigest()[:16]
    file = cache / f"prepared-{key}.npy"
    boxes_file = cache / f"prepared-{key}.json"
    if not (boxes_file.is_file() and _is_as_prepared_today(dataset, geometry, file)):
        try:
            _fill_cache(dataset, geometry, file, boxes_file, progress)
        except OSError as error:
            raise TrainingError(
                f"the prepared mammograms could not be kept in {cache} ({error.strerror}): they need "
                f"{len(dataset) * geometry.rows * geometry.columns * 2 / 1e6:.0f} MB on a disk that can be written"
            ) from error
    pixels = np.load(file, mmap_mode="r")
    boxes = [np.array(rows, dtype=np.float64).reshape(-1, 4) for rows in json.loads(boxes_file.read_text())]
    labels = [np.array([classes.index(label) for label in image.labels], dtype=np.int64) for image in dataset]
    return PreparedSamples(pixels, boxes, labels)


def check_labels(dataset: AnnotatedDataset, classes: tuple[str, ...]) -> None:
    """Raise `TrainingError` where a box's label is not among the classes."""
    unknown = {label for image in dataset for label in image.labels} - set(classes)
    if unknown:
        raise TrainingError(
            f"data set {dataset.name} has boxes labelled {', '.join(sorted(unknown))}, the recipe has the classes "
            f"{', '.join(classes)}: add them to detector.classes, map them with data.labels, or name them in "
            "data.leave_out"
        )


def _is_as_prepared_today(dataset: AnnotatedDataset, geometry: InputGeometry, file: Path) -> bool:
    """Whether the first mammogram, prepared anew, is the one kept: another version may prepare otherwise."""
    first = prepare(read_mammogram(dataset[0].path), geometry)
    try:
        return np.array_equal(np.load(file, mmap_mode="r")[0], _as_levels(first))
    except (OSError, ValueError):
        return False


def _as_levels(prepared: PreparedImage) -> NDArray[np.uint16]:
    return np.rint(prepared.pixels * _LEVELS).astype(np.uint16)


def _fill_cache(
    dataset: AnnotatedDataset,
    geometry: InputGeometry,
    file: Path,
    boxes_file: Path,
    progress: Callable[[int, int], None],
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Its own name for each process: two runs that start on a fresh data set at once must not write into one file.
    partial = file.with_suffix(f".{os.getpid()}.part")
    shape = (len(dataset), geometry.rows, geometry.columns)
    boxes = []
    try:
        # A plain stream, not a memory map: on a full disk a map kills the process without a word.
        with partial.open("wb") as stream:
            header = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint16)),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(stream, header)
            for number, image in enumerate(dataset):
                prepared = prepare(read_mammogram(image.path), geometry)
                stream.write(_as_levels(prepared).tobytes())
                placed = prepared.placement.to_picture(np.array([box.as_tuple() for box in image.boxes]))
                boxes.append(np.clip(placed, 0, [geometry.columns, geometry.rows] * 2).tolist())
                progress(number + 1, len(dataset))
        boxes_file.unlink(missing_ok=True)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    # Written last: its presence says that the cache is whole.
    write_atomically(boxes_file, json.dumps(boxes).encode())


class TrainingSet(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Samples by (draw, index): the pair seeds the augmentation, so that a resumed run goes on as if unbroken."""

    def __init__(self, samples: PreparedSamples, section: AugmentationSection, seed: int) -> None:
        self._samples = samples
        self._section = section
        self._seed = seed
        self._masses = [(image, number) for image, boxes in enumerate(samples.boxes) for number in range(len(boxes))]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """One augmented image (1, rows, columns) and its target."""
        draw, index = key
        rng = np.random.default_rng((self._seed, draw, index))
        pixels = self._pixels(index)
        boxes, labels = self._samples.boxes[index], self._samples.labels[index]
        if self._masses and rng.random() < self._section.copy_paste:
            pixels, boxes, labels = self._with_pasted_mass(pixels, boxes, labels, rng)
        changed, boxes, kept = augment(pixels, boxes, self._section, rng)
        # A box narrower than a pixel teaches nothing and makes the box loss infinite.
        large = np.all(boxes[:, 2:] - boxes[:, :2] >= 1, axis=1)
        target = {
            "boxes": torch.from_numpy(boxes[large].astype(np.float32)),
            "labels": torch.from_numpy(labels[kept][large]),
        }
        return torch.from_numpy(np.ascontiguousarray(changed)).unsqueeze(0), target

    def _with_pasted_mass(
        self,
        pixels: NDArray[np.float32],
        boxes: NDArray[np.float64],
        labels: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
        image, number = self._masses[rng.integers(len(self._masses))]
        label = self._samples.labels[image][number]
        donor = Donor(self._pixels(image), self._samples.boxes[image][number])
        pasted = paste_mass(pixels, boxes, donor, rng)
        if pasted is None:
            return pixels, boxes, labels
        pixels, box = pasted
        return pixels, np.vstack([boxes, box]), np.append(labels, label)

    def _pixels(self, index: int) -> NDArray[np.float32]:
        return np.asarray(self._samples.pixels[index] / np.float32(_LEVELS), dtype=np.float32)


def collate(
    samples: list[tuple[Tensor, dict[str, Tensor]]],
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """A batch: images (n, 1, rows, columns) and one target each."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), list(targets)
