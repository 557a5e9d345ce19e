"""The training loop."""

import copy
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader

from mammoscope.datasets import load_dataset
from mammoscope.detectors import MassDetector, build_detector, to_channels_last
from mammoscope.training.checkpoint import Checkpoint, RunFolder
from mammoscope.training.errors import TrainingError
from mammoscope.training.optimisation import (
    AveragedWeights,
    all_finite,
    build_optimiser,
    learning_rate_factor,
    progress_of,
)
from mammoscope.training.recipe import Recipe
from mammoscope.training.samples import EndlessShuffle, PreparedSamples, TrainingSet, collate, prepare_samples
from mammoscope.training.validation import figures_for_curves

_CALMER = "lower optimiser.learning_rate or set optimiser.clip_norm in a new run"


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step as progress displays show it."""

    iteration: int
    progress: float
    loss: float
    learning_rate: float
    seconds_left: float


class Watcher(Protocol):
    """Told how a training goes."""

    def prepared(self, done: int, total: int) -> None:
        """That many mammograms are prepared."""

    def resumed(self, iteration: int) -> None:
        """The run goes on after that many iterations."""

    def stepped(self, step: Step) -> None:
        """An optimiser step is done."""

    def validated(self, iteration: int, figures: dict[str, Any]) -> None:
        """The validation split was evaluated."""


def train(recipe: Recipe, watcher: Watcher) -> RunFolder:
    """Train as a recipe says, or go on where a killed run of the same recipe left off.

    Returns
    -------
    RunFolder
        Holds the last checkpoint and the curves.

    Raises
    ------
    TrainingError
        If data and recipe do not fit, the loss is no longer a number, or the run's folder cannot be written.
    DatasetError, MammogramError, WeightsError
        If the data set, a mammogram or the backbone's weights cannot be used.
    """
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    set_seed(recipe.run.seed)
    accelerator = Accelerator()
    dataset = load_dataset(recipe.data.dataset)
    learning, validation = dataset.narrowed("train"), dataset.narrowed("val")
    cache = recipe.data.dataset / ".prepared"
    with accelerator.main_process_first():
        run = RunFolder.open(recipe.run_folder, recipe, dataset.fingerprint())
        samples = prepare_samples(learning, recipe.detector.classes, recipe.input.geometry, cache, watcher.prepared)
    fresh = not run.has_checkpoint
    detector = build_detector(
        recipe.detector, recipe.input.rows, recipe.input.columns, load_weights=fresh and recipe.start is None
    )
    if fresh and recipe.start is not None:
        _begin_with(detector, recipe.start)
    trainer = _Trainer(recipe, run, to_channels_last(detector), samples, accelerator, watcher)
    trainer.resume()

    def validate(iteration: int) -> None:
        averaged = trainer.averaged_detector()
        figures = figures_for_curves(averaged, recipe.input.geometry, validation, recipe.name)
        run.log({"iteration": iteration, "validation": figures})
        watcher.validated(iteration, figures)

    trainer.run_all(validate if accelerator.is_main_process else lambda _iteration: None)
    return run


def _begin_with(detector: MassDetector, start: Path) -> None:
    try:
        detector.load_state_dict(RunFolder(start).load().best_state)
    except RuntimeError as error:
        raise TrainingError(
            f"the run {start} trained another detector than this recipe's: give start a run with the same [detector], "
            "or take the line out"
        ) from error


class _Trainer:
    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        detector: MassDetector,
        samples: PreparedSamples,
        accelerator: Accelerator,
        watcher: Watcher,
    ) -> None:
        self._recipe = recipe
        self._run = run
        self._accelerator = accelerator
        self._watcher = watcher
        self._samples = samples
        optimiser = build_optimiser(detector, recipe.optimiser)
        self._base_rates = [group["lr"] for group in optimiser.param_groups]
        self._detector, self._optimiser = accelerator.prepare(detector, optimiser)
        self._averaged = (
            AveragedWeights(accelerator.unwrap_model(self._detector), recipe.schedule.ema)
            if recipe.schedule.ema
            else None
        )
        self._iteration = 0
        self._minutes_before = 0.0
        self._started = time.monotonic()
        self._recent: deque[float] = deque(maxlen=50)

    def resume(self) -> None:
        """Take up the last checkpoint, if there is one."""
        if not self._run.has_checkpoint:
            return
        checkpoint = self._run.load()
        plain = self._accelerator.unwrap_model(self._detector)
        try:
            plain.load_state_dict(checkpoint.detector)
            self._optimiser.load_state_dict(checkpoint.optimiser)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"the checkpoint in {self._run.path} is of another model: give run.folder another name"
            ) from error
        if self._averaged and checkpoint.averaged:
            device = self._accelerator.device
            self._averaged.state = {name: value.to(device, copy=True) for name, value in checkpoint.averaged.items()}
        self._iteration, self._minutes_before = checkpoint.iteration, checkpoint.minutes
        self._watcher.resumed(self._iteration)

    def run_all(self, validate: Callable[[int], None]) -> None:
        """Step until iterations or minutes are used up; checkpoint and validate on the way."""
        schedule, every = self._recipe.schedule, self._recipe.run
        self._started = time.monotonic()
        self._recent.append(self._started)
        for images, targets in self._loader():
            if progress_of(schedule, self._iteration, self._minutes) >= 1:
                break
            self._step(images, targets)
            if self._iteration % every.checkpoint_every == 0:
                self._save()
            if self._iteration % every.validate_every == 0 and self._iteration < schedule.iterations:
                validate(self._iteration)
        self._save()

    def averaged_detector(self) -> MassDetector:
        """A copy of the detector with the weights to validate."""
        detector: MassDetector = copy.deepcopy(self._accelerator.unwrap_model(self._detector))
        if self._averaged:
            detector.load_state_dict(self._averaged.state)
        return detector.eval()

    @property
    def _minutes(self) -> float:
        return self._minutes_before + (time.monotonic() - self._started) / 60

    def _loader(self) -> DataLoader[tuple[Tensor, dict[str, Tensor]]]:
        recipe = self._recipe
        parts = self._accelerator.num_processes
        if recipe.schedule.batch % (parts * recipe.schedule.accumulate):
            raise TrainingError(
                f"schedule.batch = {recipe.schedule.batch} does not divide among {parts} processes: choose a multiple"
            )
        batches = EndlessShuffle(
            len(self._samples),
            recipe.schedule.batch,
            recipe.run.seed,
            self._iteration,
            recipe.schedule.iterations,
            share=(self._accelerator.process_index, parts),
        )
        return DataLoader(
            TrainingSet(self._samples, recipe.augmentation, recipe.run.seed),
            batch_sampler=batches,
            num_workers=recipe.run.workers,
            persistent_workers=recipe.run.workers > 0,
            pin_memory=self._accelerator.device.type == "cuda",
            collate_fn=collate,
        )

    def _step(self, images: Tensor, targets: list[dict[str, Tensor]]) -> None:
        schedule = self._recipe.schedule
        # Faster R-CNN draws the proposals it learns from: drawn by iteration, a resumed run draws the same.
        torch.manual_seed(_seed_of_step(self._recipe.run.seed, self._iteration, self._accelerator.process_index))
        factor = learning_rate_factor(schedule, self._iteration, self._minutes)
        for group, rate in zip(self._optimiser.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor
        self._detector.train()
        self._optimiser.zero_grad()
        loss = 0.0
        size = -(-len(targets) // schedule.accumulate)
        device = self._accelerator.device
        for start in range(0, len(targets), size):
            part = [
                {key: value.to(device) for key, value in target.items()} for target in targets[start : start + size]
            ]
            with self._accelerator.autocast():
                losses = self._detector(images[start : start + size].to(device), part)
            if not all_finite(losses.values()):
                self._refuse_to_go_on(losses)
            total = sum(losses.values()) * (len(part) / len(targets))
            self._accelerator.backward(total)
            loss += float(total.detach())
        if self._recipe.optimiser.clip_norm:
            self._accelerator.clip_grad_norm_(self._detector.parameters(), self._recipe.optimiser.clip_norm)
        self._optimiser.step()
        if self._averaged:
            self._averaged.update(self._accelerator.unwrap_model(self._detector), self._iteration)
        self._iteration += 1
        self._report(loss)

    def _refuse_to_go_on(self, losses: dict[str, Tensor]) -> None:
        worst = next(name for name, loss in losses.items() if not torch.isfinite(loss))
        raise TrainingError(
            f"the loss {worst} is no longer a number at iteration {self._iteration}: {self._last_checkpoint()}; "
            f"{_CALMER}"
        )

    def _last_checkpoint(self) -> str:
        if not self._run.has_checkpoint:
            return f"{self._run.path} has no checkpoint yet"
        return f"the last checkpoint in {self._run.path} is safe"

    def _report(self, loss: float) -> None:
        now = time.monotonic()
        self._recent.append(now)
        rate = self._optimiser.param_groups[-1]["lr"]
        progress = progress_of(self._recipe.schedule, self._iteration, self._minutes)
        self._watcher.stepped(Step(self._iteration, progress, loss, rate, self._seconds_left()))
        if self._accelerator.is_main_process and self._iteration % 10 == 0:
            self._run.log(
                {"iteration": self._iteration, "minutes": round(self._minutes, 3), "loss": loss, "learning_rate": rate}
            )

    def _seconds_left(self) -> float:
        """By the pace of the last steps, or by the budget of minutes where that ends first."""
        schedule = self._recipe.schedule
        left = float("inf") if schedule.minutes is None else (schedule.minutes - self._minutes) * 60
        pace = (self._recent[-1] - self._recent[0]) / (len(self._recent) - 1)
        return max(min(left, pace * (schedule.iterations - self._iteration)), 0.0)

    def _save(self) -> None:
        if self._accelerator.is_main_process:
            state = self._accelerator.unwrap_model(self._detector).state_dict()
            # A step can break the weights after a finite loss: such a checkpoint must not replace a sound one.
            if not all_finite(state.values()):
                raise TrainingError(
                    f"the weights are no longer numbers at iteration {self._iteration}: {self._last_checkpoint()}; "
                    f"{_CALMER}"
                )
            self._run.save(
                Checkpoint(
                    self._iteration,
                    self._minutes,
                    state,
                    self._averaged.state if self._averaged else None,
                    self._optimiser.state_dict(),
                )
            )


def _seed_of_step(seed: int, iteration: int, process: int) -> int:
    return int(np.random.SeedSequence((seed, iteration, process)).generate_state(1)[0])
