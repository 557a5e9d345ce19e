"""Pretraining a ResNet on patches: a mass or none (Shen et al. 2019, doi 10.1038/s41598-019-48995-4).

For where there are no ImageNet weights. The network has batch norm, as torchvision's weights have, so that a detector
can fix its statistics.
"""

import io
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models import resnet

from mammoscope.datasets import AnnotatedDataset, load_dataset
from mammoscope.detectors import Backbone
from mammoscope.detectors.backbones import pixel_normalisation
from mammoscope.training.checkpoint import Checkpoint, RunFolder, write_atomically
from mammoscope.training.data import make_ready_to_fork, prepare_samples
from mammoscope.training.errors import TrainingError
from mammoscope.training.optim import (
    AveragedWeights,
    Course,
    all_finite,
    build_optimiser,
    learning_rate_factor,
)
from mammoscope.training.pretraining.patches import (
    JudgedPatches,
    PatchCutter,
    PatchFigures,
    TrainingPatches,
    judged_patches,
    patch_figures,
)
from mammoscope.training.pretraining.recipe import PretrainRecipe, log, open_folder

_AT_A_TIME = 32
"""Patches judged at a time."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What a pretraining leaves: weights under torchvision's names, and how well they tell patches of validation."""

    weights: Path
    figures: PatchFigures


class PretrainWatcher(Protocol):
    """Told how a pretraining goes."""

    def prepared(self, done: int, total: int) -> None:
        """That many mammograms of a split are prepared."""

    def resumed(self, iteration: int) -> None:
        """The run resumes after that many iterations."""

    def stepped(self, iteration: int, progress: float, loss: float, minutes_left: float) -> None:
        """An optimiser step is done."""

    def validated(self, iteration: int, figures: PatchFigures) -> None:
        """The patches of validation were judged."""


class PatchNetwork(nn.Module):
    """A ResNet with one output: grey patches (n, 1, size, size) from 0 to 1 to (n,) logits of showing a mass."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        build = {Backbone.RESNET50: resnet.resnet50, Backbone.RESNET101: resnet.resnet101}[backbone]
        self.network: nn.Module = build(num_classes=1)
        self._mean_std = pixel_normalisation(backbone)

    def forward(self, patches: Tensor) -> Tensor:
        """Logits."""
        mean, std = (patches.new_tensor(values).view(1, 3, 1, 1) for values in self._mean_std)
        logits: Tensor = self.network((patches - mean) / std)
        return logits.squeeze(1)

    def backbone_state(self) -> dict[str, Tensor]:
        """What a detector takes: everything but the last layer."""
        return {name: value.cpu() for name, value in self.network.state_dict().items() if not name.startswith("fc.")}


def pretrain(recipe: PretrainRecipe, watcher: PretrainWatcher) -> Pretrained:
    """Pretrain as a recipe says, or resume where a killed run of the same recipe left off.

    Learns from the split ``train`` and is judged on patches of ``val``; it uses a GPU, with bfloat16, where there
    is one. The run's folder gets ``BACKBONE.pth`` and ``figures.json`` at the end.

    Raises
    ------
    TrainingError
        If data and recipe do not fit, the loss is no longer a number, or the run's folder cannot be written.
    DatasetError, MammogramError
        If the data set or a mammogram cannot be used.
    """
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    torch.manual_seed(recipe.run.seed)
    dataset = load_dataset(recipe.dataset)
    run = open_folder(recipe, dataset.fingerprint())
    cache = recipe.dataset / ".prepared"
    prepared = {
        split: prepare_samples(dataset.narrowed(split), recipe.classes, recipe.input.geometry, cache, watcher.prepared)
        for split in ("train", "val")
    }
    cutter = PatchCutter(prepared["train"], recipe.patch)
    patches = TrainingPatches(cutter, len(prepared["train"]), recipe.patch, recipe.augmentation, recipe.run.seed)
    judged = judged_patches(
        PatchCutter(prepared["val"], recipe.patch), prepared["val"], _patients(dataset.narrowed("val")), recipe.patch
    )
    trainer = _Pretrainer(recipe, run, watcher)
    trainer.resume()
    trainer.run_all(patches, judged)
    return _leave(run.path, recipe.backbone, trainer.averaged_network(), judged)


def _patients(dataset: AnnotatedDataset) -> list[str]:
    return [image.patient for image in dataset]


def _leave(folder: Path, backbone: Backbone, network: PatchNetwork, judged: JudgedPatches) -> Pretrained:
    figures = _judge(network, judged)
    weights = folder / f"{backbone}.pth"
    content = io.BytesIO()
    torch.save(network.backbone_state(), content)
    try:
        write_atomically(weights, content.getvalue())
        write_atomically(folder / "figures.json", json.dumps(asdict(figures), indent=2).encode())
    except OSError as error:
        raise TrainingError(
            f"the weights {weights} could not be written ({error.strerror}): the last checkpoint is safe; free disk "
            "space and start the same command again"
        ) from error
    return Pretrained(weights, figures)


def _judge(network: PatchNetwork, judged: JudgedPatches) -> PatchFigures:
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        logits = torch.cat([network(part.to(device)).cpu() for part in torch.split(judged.pixels, _AT_A_TIME)])
    return patch_figures(torch.sigmoid(logits.float()).numpy().astype(np.float64), judged.masses, judged.patients)


class _Pretrainer:
    def __init__(self, recipe: PretrainRecipe, run: RunFolder, watcher: PretrainWatcher) -> None:
        self._recipe = recipe
        self._run = run
        self._watcher = watcher
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._schedule = recipe.schedule.as_schedule
        self._course = Course.of(self._schedule)
        self._network = PatchNetwork(recipe.backbone).to(self._device)
        self._optimiser = build_optimiser(self._network, recipe.optimiser)
        self._base_rates = [group["lr"] for group in self._optimiser.param_groups]
        self._averaged = AveragedWeights(self._network, recipe.schedule.ema) if recipe.schedule.ema else None
        self._iteration = self._iteration_at_start = 0
        self._minutes_before = 0.0
        self._started = time.monotonic()

    def resume(self) -> None:
        """Take up the last checkpoint, if there is one."""
        if not self._run.has_checkpoint:
            return
        checkpoint = self._run.load()
        try:
            self._network.load_state_dict(checkpoint.detector)
            self._optimiser.load_state_dict(checkpoint.optimiser)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"the checkpoint in {self._run.path} is of another network: give run.folder another name"
            ) from error
        if self._averaged and checkpoint.averaged:
            self._averaged.state = {name: value.to(self._device) for name, value in checkpoint.averaged.items()}
        self._iteration = self._iteration_at_start = checkpoint.iteration
        self._minutes_before = checkpoint.minutes
        self._watcher.resumed(self._iteration)

    def run_all(self, patches: TrainingPatches, judged: JudgedPatches) -> None:
        """Step until iterations or minutes are used up."""
        schedule, every = self._schedule, self._recipe.run
        numbers = range(self._iteration * schedule.batch, schedule.iterations * schedule.batch)
        if every.workers:
            make_ready_to_fork()
        loader = DataLoader(
            patches,
            batch_size=schedule.batch,
            sampler=numbers,
            num_workers=every.workers,
            pin_memory=self._device.type == "cuda",
        )
        self._started = time.monotonic()
        for pixels, masses in loader:
            if self._course.progress(self._iteration, self._minutes) >= 1:
                break
            self._step(pixels.to(self._device), masses.to(self._device))
            if self._iteration % every.checkpoint_every == 0:
                self._save()
            if self._iteration % every.validate_every == 0:
                figures = _judge(self.averaged_network(), judged)
                log(self._run, {"iteration": self._iteration, "validation": asdict(figures)})
                self._watcher.validated(self._iteration, figures)
        self._save()

    def averaged_network(self) -> PatchNetwork:
        """A copy of the network with the weights to judge and keep."""
        network = PatchNetwork(self._recipe.backbone).to(self._device)
        network.load_state_dict(self._averaged.state if self._averaged else self._network.state_dict())
        return network

    @property
    def _minutes(self) -> float:
        return self._minutes_before + (time.monotonic() - self._started) / 60

    def _step(self, pixels: Tensor, masses: Tensor) -> None:
        factor = learning_rate_factor(self._schedule, self._course, self._iteration, self._minutes)
        for group, rate in zip(self._optimiser.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor
        self._network.train()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            logits = self._network(pixels)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), masses)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is no longer a number at iteration {self._iteration}: lower optimiser.learning_rate or set "
                f"optimiser.clip_norm in a new run; what {self._run.path} holds is safe"
            )
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        if self._recipe.optimiser.clip_norm:
            nn.utils.clip_grad_norm_(self._network.parameters(), self._recipe.optimiser.clip_norm)
        self._optimiser.step()
        if self._averaged:
            self._averaged.update(self._network, self._iteration)
        self._iteration += 1
        self._report(float(loss.detach()), self._base_rates[0] * factor)

    def _report(self, loss: float, rate: float) -> None:
        schedule = self._schedule
        pace = (self._minutes - self._minutes_before) / (self._iteration - self._iteration_at_start)
        left = pace * (schedule.iterations - self._iteration)
        if schedule.minutes is not None:
            left = max(min(left, schedule.minutes - self._minutes), 0.0)
        progress = self._course.progress(self._iteration, self._minutes)
        self._watcher.stepped(self._iteration, progress, loss, left)
        if self._iteration % 10 == 0:
            minutes = round(self._minutes, 3)
            log(self._run, {"iteration": self._iteration, "minutes": minutes, "loss": loss, "learning_rate": rate})

    def _save(self) -> None:
        state = self._network.state_dict()
        if not all_finite(state.values()):
            raise TrainingError(
                f"the weights are no longer numbers at iteration {self._iteration}: lower optimiser.learning_rate in "
                f"a new run; what {self._run.path} holds is safe"
            )
        averaged = self._averaged.state if self._averaged else None
        self._run.save(Checkpoint(self._iteration, self._minutes, state, averaged, self._optimiser.state_dict()))
