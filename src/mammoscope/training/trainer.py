"""The training loop."""

import copy
import math
import time
from contextlib import nullcontext
from dataclasses import asdict

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from mammoscope.detectors import MassDetector, build_detector, to_channels_last
from mammoscope.detectors.losses import Truth
from mammoscope.training import distributed as processes
from mammoscope.training.bundle_weights import begin_with
from mammoscope.training.callbacks import Pace, Selection, Step, Unwatched, Watcher
from mammoscope.training.checkpoint import Checkpoint, RunFolder, provenance
from mammoscope.training.data import PreparedSamples, build_batches, load_data, training_samples
from mammoscope.training.distillation import Teacher
from mammoscope.training.errors import TrainingError
from mammoscope.training.logger import Curves
from mammoscope.training.optim import (
    AveragedWeights,
    Course,
    MixedPrecision,
    all_finite,
    build_optimiser,
    keep_boxes_precise,
    learning_rate_factor,
    precision_on,
)
from mammoscope.training.recipe import Recipe
from mammoscope.training.trackers import start_trackers
from mammoscope.training.validation import ValidationImages

_CALMER = "lower optimiser.learning_rate or set optimiser.clip_norm in a new run"
_LOG_EVERY = 10
_SAVE_AFTER = 60.0
"""Seconds after which a checkpoint is written whatever the recipe says of iterations: so much a kill costs at most."""


def train(recipe: Recipe, watcher: Watcher) -> RunFolder:
    """Train as a recipe says, or resume where a killed run of the same recipe left off.

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
    accelerator = processes.start()
    if not accelerator.is_main_process:
        watcher = Unwatched()
    data = load_data(recipe.data)
    if told := data.set_aside_told():
        watcher.noted(told)
    with accelerator.main_process_first():
        run = RunFolder.open(recipe.run_folder, recipe, data.fingerprint())
        samples = training_samples(recipe, data, watcher)
    fresh = not run.has_checkpoint
    detector = build_detector(recipe.detector, load_weights=fresh and recipe.start is None)
    if fresh and recipe.start is not None:
        begin_with(detector, recipe.start)
    validation = ValidationImages(data.narrowed("val"), recipe.input.geometry)
    trainer = _Trainer(recipe, run, to_channels_last(detector), samples, validation, accelerator, watcher)
    trainer.resume()
    trainer.run_all()
    return run


class _Trainer:
    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        detector: MassDetector,
        samples: PreparedSamples,
        validation: ValidationImages,
        accelerator: Accelerator,
        watcher: Watcher,
    ) -> None:
        self._recipe = recipe
        self._run = run
        self._accelerator = accelerator
        self._watcher = watcher
        self._samples = samples
        self._validation = validation
        self._precision = MixedPrecision(
            precision_on(accelerator.device, recipe.schedule.precision), accelerator.device
        )
        keep_boxes_precise(detector)
        # Every batch has one size: the search for the fastest convolutions pays after a few steps.
        torch.backends.cudnn.benchmark = accelerator.device.type == "cuda"
        self._detector = accelerator.prepare(detector)
        self._teacher = Teacher(recipe, accelerator.device) if recipe.distill else None
        self._parts = recipe.schedule.accumulate
        self._optimiser = build_optimiser(self._plain, recipe.optimiser)
        self._base_rates = [group["lr"] for group in self._optimiser.param_groups]
        self._averaged = AveragedWeights(self._plain, recipe.schedule.ema) if recipe.schedule.ema else None
        self._pace = Pace(recipe.schedule, recipe.run, len(validation))
        self._selection = Selection()
        self._course = Course.of(recipe.schedule)
        self._losses = Losses(accelerator, 1 if accelerator.device.type == "cpu" else _LOG_EVERY)
        self._saved = time.monotonic()
        self._curves: Curves | None = None
        self._iteration = 0
        self._minutes = self._minutes_before = 0.0
        self._started = time.monotonic()

    @property
    def _plain(self) -> MassDetector:
        detector: MassDetector = self._accelerator.unwrap_model(self._detector)
        return detector

    def resume(self) -> None:
        """Take up the last checkpoint, if there is one."""
        if not self._run.has_checkpoint:
            return
        checkpoint = self._run.load()
        try:
            self._plain.load_state_dict(checkpoint.detector)
            self._optimiser.load_state_dict(checkpoint.optimiser)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"the checkpoint in {self._run.path} is of another model: give run.folder another name"
            ) from error
        if self._averaged and checkpoint.averaged:
            device = self._accelerator.device
            self._averaged.state = {name: value.to(device, copy=True) for name, value in checkpoint.averaged.items()}
        self._precision.load(checkpoint.scale)
        self._selection = Selection(**checkpoint.selection)
        self._iteration = checkpoint.iteration
        self._minutes = self._minutes_before = checkpoint.minutes
        before = Course(**checkpoint.course) if checkpoint.course else self._course
        self._course = before.going_on(self._recipe.schedule, self._iteration, self._minutes)
        self._watcher.resumed(self._iteration)

    def run_all(self) -> None:
        """Step until iterations, minutes or patience are used up; validate and save on the way."""
        schedule, every, selection = self._recipe.schedule, self._recipe.run, self._recipe.selection
        if self._accelerator.is_main_process:
            trackers = start_trackers(self._recipe, self._accelerator)
            self._curves = Curves(self._run.path, self._iteration, tensorboard=every.tensorboard, trackers=trackers)
            facts = provenance(self._accelerator.device, self._accelerator.num_processes)
            self._run.started({"iteration": self._iteration, **facts})
        self._started = time.monotonic()
        step_started = self._started
        for images, targets in build_batches(self._recipe, self._samples, self._accelerator, self._iteration):
            if self._is_over():
                break
            self._step(images, targets)
            self._look_at_the_clock()
            now = time.monotonic()
            self._pace.stepped(now - step_started)
            self._report()
            # Validation before the checkpoint: what a kill takes back, the next start does again.
            if self._iteration % every.validate_every == 0 and self._iteration < schedule.iterations:
                self._validate()
            if self._iteration % every.checkpoint_every == 0 or self._is_overdue(now):
                self._save()
            step_started = time.monotonic()
        if selection.keep == "best" and self._selection.last != self._iteration:
            self._validate()
        self._save()
        if self._selection.patience_is_over(selection):
            self._watcher.stopped_early(self._iteration, self._selection.iteration)
        if self._curves:
            self._curves.close()
        self._accelerator.wait_for_everyone()

    def _is_overdue(self, now: float) -> bool:
        """Whether a minute has gone since the last checkpoint; several processes' clocks would disagree on it."""
        return self._accelerator.num_processes == 1 and now - self._saved > _SAVE_AFTER

    def _is_over(self) -> bool:
        used_up = self._course.progress(self._iteration, self._minutes) >= 1
        return used_up or self._selection.patience_is_over(self._recipe.selection)

    def _look_at_the_clock(self) -> None:
        minutes = self._minutes_before + (time.monotonic() - self._started) / 60
        # The schedule follows the clock: all processes must read the same.
        budgeted = self._recipe.schedule.minutes is not None
        self._minutes = processes.of_the_first(self._accelerator, minutes) if budgeted else minutes

    def _averaged_detector(self) -> MassDetector:
        """A copy of the detector with the weights to validate."""
        detector = copy.deepcopy(self._plain)
        if self._averaged:
            detector.load_state_dict(self._averaged.state)
        return detector.eval()

    def _step(self, images: Tensor, targets: Truth) -> None:
        """One optimiser step."""
        schedule = self._recipe.schedule
        # Faster R-CNN draws the proposals it learns from: drawn by iteration, a resumed run draws the same.
        torch.manual_seed(_seed_of_step(self._recipe.run.seed, self._iteration, self._accelerator.process_index))
        factor = learning_rate_factor(schedule, self._course, self._iteration, self._minutes)
        for group, rate in zip(self._optimiser.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor
        self._detector.train()
        summed = self._gradient(images, targets)
        if not self._losses.add(self._iteration, summed):
            self._refuse_to_go_on()
        try:
            self._precision.step(self._optimiser, self._recipe.optimiser.clip_norm)
        except TrainingError as error:
            raise TrainingError(
                f"{error} before iteration {self._iteration}: {self._last_checkpoint()}; {_CALMER}"
            ) from None
        if self._averaged:
            self._averaged.update(self._plain, self._iteration)
        self._iteration += 1

    def _gradient(self, images: Tensor, targets: Truth) -> dict[str, Tensor]:
        """The gradient of a batch, in as many parts as memory asks for; its losses."""
        while True:
            try:
                self._optimiser.zero_grad()
                return self._gradient_in_parts(images, targets)
            except torch.OutOfMemoryError as error:
                size = -(-len(targets) // self._parts)
                if size == 1 or self._accelerator.num_processes > 1:
                    raise TrainingError(
                        f"the device's memory does not hold {size} image{'s' if size > 1 else ''} of "
                        f"{images.shape[-2]} x {images.shape[-1]} pixels: {self._last_checkpoint()}; make input.rows "
                        "and input.columns smaller, or set schedule.accumulate"
                    ) from error
                self._parts = -(-len(targets) // -(-size // 2))
            # Outside the handler, whose error still holds the tensors of the failed try.
            if self._accelerator.device.type == "cuda":
                torch.cuda.empty_cache()
            self._watcher.noted(
                f"the device's memory is too small for {size} images at once: each batch of {len(targets)} is computed "
                f"in {self._parts} parts from now on, and learns the same"
            )

    def _gradient_in_parts(self, images: Tensor, targets: Truth) -> dict[str, Tensor]:
        summed: dict[str, Tensor] = {}
        size = -(-len(targets) // self._parts)
        device = self._accelerator.device
        for start in range(0, len(targets), size):
            part = targets.part(start, start + size)
            last = start + size >= len(targets)
            with nullcontext() if last else self._accelerator.no_sync(self._detector):
                with self._precision.autocast():
                    shown = images[start : start + size]
                    losses = self._detector(shown, self._teacher.taught(shown, part) if self._teacher else part)
                weighted = {name: value * (len(part) / len(targets)) for name, value in losses.items()}
                self._accelerator.backward(
                    self._precision.scaled(sum(weighted.values(), torch.zeros((), device=device)))
                )
            for name, value in weighted.items():
                summed[name] = summed[name] + value.detach() if name in summed else value.detach()
        return summed

    def _refuse_to_go_on(self) -> None:
        name, iteration = self._losses.first_that_is_no_number()
        raise TrainingError(
            f"the loss {name} is no longer a number at iteration {iteration}: {self._last_checkpoint()}; {_CALMER}"
        )

    def _last_checkpoint(self) -> str:
        if not self._run.has_checkpoint:
            return f"{self._run.path} has no checkpoint yet"
        return f"the last checkpoint in {self._run.path} is safe"

    def _report(self) -> None:
        parts = self._losses.last
        loss = sum(parts.values()) if parts else math.nan
        rate = self._optimiser.param_groups[-1]["lr"]
        progress = self._course.progress(self._iteration, self._minutes)
        left = self._pace.seconds_left(self._iteration, self._minutes)
        self._watcher.stepped(Step(self._iteration, progress, loss, rate, left))
        if self._curves and self._iteration % _LOG_EVERY == 0:
            record = {"iteration": self._iteration, "minutes": round(self._minutes, 3), "loss": loss}
            self._curves.add({**record, "losses": parts, "learning_rate": rate})

    def _validate(self) -> None:
        """The first process looks; all learn what it means."""
        section, figure = self._recipe.selection, math.nan
        averaged = self._averaged_detector()
        if self._curves:
            started = time.monotonic()
            figures = self._validation.figures(averaged, self._recipe.name)
            self._curves.add({"iteration": self._iteration, "validation": figures})
            self._pace.validated(time.monotonic() - started)
            self._watcher.validated(self._iteration, figures)
            found = figures.get(section.figure)
            figure = math.nan if found is None else found
        self._look_at_the_clock()
        if not section.decides:
            return
        self._selection = self._selection.after(processes.of_the_first(self._accelerator, figure), self._iteration)
        if self._curves and section.keep == "best" and self._selection.is_fresh:
            self._run.save_best(averaged.state_dict(), self._iteration, self._selection.figure)

    def _save(self) -> None:
        if not self._losses.read():
            self._refuse_to_go_on()
        self._saved = time.monotonic()
        if not self._accelerator.is_main_process:
            return
        state = self._plain.state_dict()
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
                self._precision.state(),
                asdict(self._selection),
                asdict(self._course),
            )
        )


class Losses:
    """The losses of the last steps, read every few of them: reading one makes a GPU wait for all it was asked to do.

    Parameters
    ----------
    every
        Steps after which they are read.
    """

    def __init__(self, accelerator: Accelerator, every: int) -> None:
        self._accelerator = accelerator
        self._every = every
        self._unread: list[tuple[int, dict[str, Tensor]]] = []
        self._read: list[tuple[int, dict[str, float]]] = []

    def add(self, iteration: int, losses: dict[str, Tensor]) -> bool:
        """Take in a step's; false if those read were not all numbers."""
        self._unread.append((iteration, losses))
        # By iteration, not by count: all processes read at once, as the mean over them asks.
        return self.read() if (iteration + 1) % self._every == 0 or iteration == 0 else True

    def read(self) -> bool:
        """Read all that are not read yet; whether they are numbers."""
        if not self._unread:
            return True
        rows = torch.stack([torch.stack(list(losses.values())) for _, losses in self._unread])
        values = processes.mean_over_all(self._accelerator, rows).tolist()
        self._read = [
            (iteration, dict(zip(losses, row, strict=True)))
            for (iteration, losses), row in zip(self._unread, values, strict=True)
        ]
        self._unread = []
        return all(map(math.isfinite, (value for row in values for value in row)))

    @property
    def last(self) -> dict[str, float]:
        """The parts of the last loss that was read; empty before the first."""
        return self._read[-1][1] if self._read else {}

    def first_that_is_no_number(self) -> tuple[str, int]:
        """Name and iteration, of those read last."""
        return next(
            (name, iteration)
            for iteration, losses in self._read
            for name, value in losses.items()
            if not math.isfinite(value)
        )


def _seed_of_step(seed: int, iteration: int, process: int) -> int:
    return int(np.random.SeedSequence((seed, iteration, process)).generate_state(1)[0])
