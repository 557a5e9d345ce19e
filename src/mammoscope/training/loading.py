"""Batches for the loop: prepared once, drawn in a fixed order, changed by as many workers as there is room for."""

import os

import cv2
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from mammoscope.datasets import AnnotatedDataset
from mammoscope.training.data import learnable
from mammoscope.training.errors import TrainingError
from mammoscope.training.recipe import Recipe
from mammoscope.training.samples import PreparedSamples, TrainingSet, check_labels, collate, prepare_samples
from mammoscope.training.sampling import EndlessShuffle, sampling_weights
from mammoscope.training.watching import Watcher

_MOST_WORKERS = 16


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


def build_loader(
    recipe: Recipe, samples: PreparedSamples, accelerator: Accelerator, start: int
) -> DataLoader[tuple[Tensor, dict[str, Tensor]]]:
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
    batches = EndlessShuffle(
        len(samples),
        recipe.schedule.batch,
        recipe.run.seed,
        start,
        recipe.schedule.iterations,
        share=(accelerator.process_index, parts),
        weights=sampling_weights(samples.labels, recipe.sampling),
    )
    workers = _workers(recipe.run.workers, accelerator)
    if workers:
        make_ready_to_fork()
    return DataLoader(
        TrainingSet(samples, recipe.augmentation, recipe.run.seed),
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        pin_memory=accelerator.device.type == "cuda",
        collate_fn=collate,
    )


def _workers(asked: int | None, accelerator: Accelerator) -> int:
    """On a CPU the training needs every core itself; beside a GPU each process has its share of the cores."""
    if asked is not None:
        return asked
    if accelerator.device.type == "cpu":
        return 0
    processes: int = accelerator.num_processes
    return max(1, min((os.cpu_count() or 1) // processes - 1, _MOST_WORKERS))


def make_ready_to_fork() -> None:
    """Leave OpenCV one thread, before workers are forked.

    A pool of threads stays behind in the parent; a child that uses or ends its copy of the pool waits for ever.
    """
    cv2.setNumThreads(1)
