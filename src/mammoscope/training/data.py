"""The data set as a recipe wants it: its labels as classes, its splits or a fold.

From an annotated data set to batches: every mammogram prepared once, changed anew each time it is seen, on the device
that learns.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from mammoscope.datasets import AnnotatedDataset, AnnotatedImage, ReviewState, load_dataset, with_fold_apart
from mammoscope.detectors.losses import Truth
from mammoscope.evaluation import attributes_of
from mammoscope.imaging import PreparedImage, Preprocessing, prepare, read_mammogram
from mammoscope.subprocesses import usable_cores
from mammoscope.training.callbacks import Watcher
from mammoscope.training.checkpoint import write_atomically
from mammoscope.training.errors import TrainingError
from mammoscope.training.recipe import AugmentationSection, DataSection, Recipe
from mammoscope.training.samplers import EndlessShuffle, sampling_weights
from mammoscope.training.transforms import (
    Change,
    Donor,
    OwnChange,
    Pasted,
    change_pixels,
    draw_change,
    move_boxes,
    paste_mass,
)

_UNKNOWN = "unknown"
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def load_data(section: DataSection) -> AnnotatedDataset:
    """The data set with the splits ``train`` and ``val`` and labels to learn, images that nobody annotated set aside.

    Raises
    ------
    TrainingError
        If no box of the data set has the attribute that is to be its label, or no image is validated though only such
        are to be used.
    DatasetError
        If the data set cannot be used, or has no such fold.
    """
    data = load_dataset(section.dataset)
    if section.fold is not None:
        data = with_fold_apart(data, section.fold)
    if not section.count_unannotated:
        data = data.annotated()
    if section.validated_only:
        data = _validated(data)
    if section.label_from is None and not section.labels and not section.leave_out:
        return data
    given = {image.id: _labels(image, section.label_from) for image in data}
    if section.label_from and all(label == _UNKNOWN for labels in given.values() for label in labels):
        raise TrainingError(
            f"data.label_from: no box or image of data set {data.name} has the attribute {section.label_from!r}; "
            "'mammoscope dataset import coco --cases' brings those of CBIS-DDSM"
        )
    return _relabelled(data, given, section.labels, section.leave_out)


def _validated(data: AnnotatedDataset) -> AnnotatedDataset:
    images = tuple(image for image in data if image.review is ReviewState.VALIDATED)
    if not images:
        raise TrainingError(
            f"data.validated_only: no image of data set {data.name} is validated; say which are with "
            "'mammoscope dataset review set'"
        )
    return replace(data, images=images)


def learnable(data: AnnotatedDataset) -> AnnotatedDataset:
    """The images of ``train`` and ``val`` together, without a split: all folds' images, the same for each."""
    images = tuple(replace(image, split=None) for image in data if image.split in ("train", "val"))
    return replace(data, images=images, split_name=None)


def _labels(image: AnnotatedImage, attribute: str | None) -> tuple[str, ...]:
    """Of each box; a box that has not the attribute itself has its image's."""
    if attribute is None:
        return image.labels
    of_image, of_boxes = attributes_of(image)
    return tuple(own.get(attribute, of_image.get(attribute, _UNKNOWN)) for own in of_boxes)


def _relabelled(
    data: AnnotatedDataset, given: Mapping[int, tuple[str, ...]], classes: Mapping[str, str], leave_out: tuple[str, ...]
) -> AnnotatedDataset:
    kept = tuple(
        replace(image, labels=tuple(classes.get(label, label) for label in given[image.id]))
        for image in data
        if not set(given[image.id]) & set(leave_out)
    )
    names = sorted({label for image in kept for label in image.labels})
    return replace(data, images=kept, category_ids={name: number for number, name in enumerate(names, start=1)})


_LEVELS = 255


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSamples:
    """Prepared mammograms in memory, with their boxes.

    Parameters
    ----------
    pixels
        Each of shape (rows, columns), ``uint8``: `PreparedImage.pixels` times 255, mapped from disk.
    boxes
        Per image (k, 4) in pixels of the input.
    labels
        Per image (k,), class indices.
    hard_negatives
        Per image how many boxes its readers rejected; empty for none at all.
    """

    pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
    boxes: list[NDArray[np.float64]]
    labels: list[NDArray[np.int64]]
    hard_negatives: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def only(self, indices: Sequence[int]) -> "PreparedSamples":
        """Those alone; nothing is copied."""
        return PreparedSamples(
            [self.pixels[index] for index in indices],
            [self.boxes[index] for index in indices],
            [self.labels[index] for index in indices],
            [self.hard_negatives[index] for index in indices] if self.hard_negatives else (),
        )


def prepare_samples(
    dataset: AnnotatedDataset,
    classes: tuple[str, ...],
    geometry: Preprocessing,
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
                f"{len(dataset) * geometry.rows * geometry.columns / 1e6:.0f} MB on a disk that can be written"
            ) from error
    pixels = np.load(file, mmap_mode="r")
    boxes = [np.array(rows, dtype=np.float64).reshape(-1, 4) for rows in json.loads(boxes_file.read_text())]
    labels = [np.array([classes.index(label) for label in image.labels], dtype=np.int64) for image in dataset]
    return PreparedSamples(pixels, boxes, labels, [len(image.hard_negatives) for image in dataset])


def check_labels(dataset: AnnotatedDataset, classes: tuple[str, ...]) -> None:
    """Raise `TrainingError` where a box's label is not among the classes."""
    unknown = {label for image in dataset for label in image.labels} - set(classes)
    if unknown:
        raise TrainingError(
            f"data set {dataset.name} has boxes labelled {', '.join(sorted(unknown))}, the recipe has the classes "
            f"{', '.join(classes)}: add them to detector.classes, map them with data.labels, or name them in "
            "data.leave_out"
        )


def _is_as_prepared_today(dataset: AnnotatedDataset, geometry: Preprocessing, file: Path) -> bool:
    """Whether the first mammogram, prepared anew, is the one kept: another version may prepare otherwise."""
    first = prepare(read_mammogram(dataset[0].path), geometry)
    try:
        return np.array_equal(np.load(file, mmap_mode="r")[0], _as_levels(first))
    except (OSError, ValueError):
        return False


def _as_levels(prepared: PreparedImage) -> NDArray[np.uint8]:
    return np.rint(prepared.pixels * _LEVELS).astype(np.uint8)


def _fill_cache(
    dataset: AnnotatedDataset,
    geometry: Preprocessing,
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
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(stream, header)
            for number, (levels, placed) in enumerate(_prepared_in_order(dataset, geometry)):
                stream.write(levels.tobytes())
                boxes.append(placed.tolist())
                progress(number + 1, len(dataset))
        boxes_file.unlink(missing_ok=True)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    # Written last: its presence says that the cache is whole.
    write_atomically(boxes_file, json.dumps(boxes).encode())


def _prepared_in_order(
    dataset: AnnotatedDataset, geometry: Preprocessing
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """Each image's levels and the edges of its boxes in them; as many images at once as there are processors."""

    def prepared(image: AnnotatedImage) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        found = prepare(read_mammogram(image.path), geometry)
        placed = found.placement.to_picture(np.array([box.as_tuple() for box in image.boxes]))
        return _as_levels(found), np.clip(placed, 0, [geometry.columns, geometry.rows] * 2)

    at_once = usable_cores()
    yield from _done_ahead(prepared, dataset, threads=at_once, ahead=2 * at_once)


def _done_ahead(work: Callable[[_Given], _Made], given: Iterable[_Given], threads: int, ahead: int) -> Iterator[_Made]:
    """What work makes of each thing, in order, while so many more are under way in threads."""
    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[_Made]] = deque()
        try:
            for one in given:
                coming.append(pool.submit(work, one))
                if len(coming) > ahead:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


class TrainingBatches:
    """Batches of augmented pictures on the device that learns, as a sampler asks for them.

    Each picture is drawn by (draw, index): the pair seeds its augmentation, so that a resumed run sees what an
    unbroken one would have seen, and a batch shared among processes is the batch of one.

    Parameters
    ----------
    keys
        Batches of (draw, index).
    seed
        Of the run.
    """

    def __init__(
        self,
        samples: PreparedSamples,
        section: AugmentationSection,
        seed: int,
        keys: Iterable[Sequence[tuple[int, int]]],
        device: torch.device,
    ) -> None:
        self._samples = samples
        self._section = section
        self._seed = seed
        self._keys = keys
        self._device = device
        self._own = [OwnChange.of(one) for one in section.custom]
        self._on_device = _whole_set(samples, device) if device.type != "cpu" else None
        self._masses = [(image, number) for image, boxes in enumerate(samples.boxes) for number in range(len(boxes))]

    def __iter__(self) -> Iterator[tuple[Tensor, Truth]]:
        """Pictures (n, 1, rows, columns) and their boxes."""
        if self._device.type == "cpu":
            yield from map(self.batch, self._keys)
            return
        # The next batch is drawn while the device learns from this one.
        for drawn in _done_ahead(self._all_drawn, self._keys, threads=1, ahead=_AHEAD):
            yield self._batch(drawn)

    def batch(self, keys: Sequence[tuple[int, int]]) -> tuple[Tensor, Truth]:
        """One batch of these very (draw, index)."""
        return self._batch(self._all_drawn(keys))

    def _all_drawn(self, keys: Sequence[tuple[int, int]]) -> list["_Drawn"]:
        return [self._drawn(*key) for key in keys]

    def _drawn(self, draw: int, index: int) -> "_Drawn":
        rng = np.random.default_rng((self._seed, draw, index))
        boxes, labels = self._samples.boxes[index], self._samples.labels[index]
        pasted = None
        if self._masses and rng.random() < self._section.copy_paste:
            image, number = self._masses[rng.integers(len(self._masses))]
            donor = Donor(self._pixels(image), self._samples.boxes[image][number])
            pasted = paste_mass(self._pixels(index), boxes, donor, rng)
            if pasted is not None:
                boxes = np.vstack([boxes, pasted.box])
                labels = np.append(labels, self._samples.labels[image][number])
        shape = self._samples.pixels[index].shape
        change = draw_change(shape, self._section, rng)
        boxes, kept = move_boxes(boxes, change, shape)
        # A box narrower than a pixel teaches nothing and makes the box loss infinite.
        large = np.all(boxes[:, 2:] - boxes[:, :2] >= 1, axis=1)
        target = {
            "boxes": torch.from_numpy(boxes[large].astype(np.float32)),
            "labels": torch.from_numpy(labels[kept][large]),
        }
        return _Drawn(draw, index, change, pasted, target)

    def _batch(self, drawn: Sequence["_Drawn"]) -> tuple[Tensor, Truth]:
        indices = [one.index for one in drawn]
        if self._on_device is None:
            stored = torch.from_numpy(np.stack([self._samples.pixels[index] for index in indices]))
        else:
            stored = self._on_device[torch.tensor(indices).to(self._device, non_blocking=True)]
        pixels = stored.float() / _LEVELS
        for picture, one in zip(pixels, drawn, strict=True):
            if one.pasted is not None:
                one.pasted.onto(picture)
        pixels, targets = change_pixels(pixels, [one.change for one in drawn]), [one.target for one in drawn]
        for number, own in enumerate(self._own):
            # Each draws for itself: what one draws changes nothing of the others.
            seeds = [(self._seed, one.draw, one.index, number) for one in drawn]
            pixels, targets = own.change(pixels, targets, [np.random.default_rng(seed) for seed in seeds])
        return pixels[:, None], Truth.from_targets(targets).to(self._device)

    def _pixels(self, index: int) -> NDArray[np.float32]:
        return np.asarray(self._samples.pixels[index] / np.float32(_LEVELS), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """What was drawn for one picture of a batch: everything but its pixels."""

    draw: int
    index: int
    change: Change
    pasted: Pasted | None
    target: dict[str, Tensor]


_AHEAD = 2
"""Batches drawn while the device is busy."""
_MOST_OF_THE_DEVICE = 0.5


def _whole_set(samples: PreparedSamples, device: torch.device) -> Tensor | None:
    """All pictures on the device, or ``None`` where they would take more than half of what is free there."""
    if not len(samples):
        return None
    needed = len(samples) * samples.pixels[0].size
    if device.type == "cuda" and needed > _MOST_OF_THE_DEVICE * torch.cuda.mem_get_info(device)[0]:
        return None
    return torch.from_numpy(np.stack(list(samples.pixels))).to(device)


def training_samples(recipe: Recipe, data: AnnotatedDataset, watcher: Watcher) -> PreparedSamples:
    """The split ``train``, prepared.

    Raises
    ------
    TrainingError
        If a box of ``train`` or ``val`` has a label that is no class, or the cache cannot be written.
    MammogramError
        If a mammogram cannot be read.
    """
    learning, everything = data.narrowed("train"), learnable(data)
    geometry, classes = recipe.input.geometry, recipe.detector.classes
    check_labels(everything, classes)
    cache = recipe.data.dataset / ".prepared"
    if recipe.data.fold is None:
        return prepare_samples(learning, classes, geometry, cache, watcher.prepared)
    # All folds share one cache, which knows no splits.
    kept = {image.id for image in learning}
    samples = prepare_samples(everything, classes, geometry, cache, watcher.prepared)
    return samples.only([index for index, image in enumerate(everything) if image.id in kept])


def build_batches(recipe: Recipe, samples: PreparedSamples, accelerator: Accelerator, start: int) -> TrainingBatches:
    """Every batch from an iteration on, as far as it falls to this process.

    Raises
    ------
    TrainingError
        If batches do not divide among the processes, or the sampling asks for what the images do not have.
    """
    parts = accelerator.num_processes
    if recipe.schedule.batch % (parts * recipe.schedule.accumulate):
        raise TrainingError(
            f"schedule.batch = {recipe.schedule.batch} does not divide among {parts} processes in "
            f"{recipe.schedule.accumulate} parts each: choose a multiple of {parts * recipe.schedule.accumulate}"
        )
    keys = EndlessShuffle(
        len(samples),
        recipe.schedule.batch,
        recipe.run.seed,
        start,
        recipe.schedule.iterations,
        share=(accelerator.process_index, parts),
        weights=sampling_weights(samples.labels, recipe.sampling, samples.hard_negatives),
    )
    return TrainingBatches(samples, recipe.augmentation, recipe.run.seed, keys, accelerator.device)


def make_ready_to_fork() -> None:
    """Leave OpenCV one thread, before workers are forked.

    A pool of threads stays behind in the parent; a child that uses or ends its copy of the pool waits for ever.
    """
    cv2.setNumThreads(1)
