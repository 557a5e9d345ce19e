"""A recipe for pretraining a backbone on patches.

The folder of a pretraining: which recipe and data it is of.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mammoscope import __version__
from mammoscope.detectors import Backbone
from mammoscope.training.checkpoint import RunFolder, write_atomically
from mammoscope.training.errors import TrainingError
from mammoscope.training.recipe import (
    AugmentationSection,
    InputSection,
    OptimiserSection,
    ScheduleSection,
    read_recipe_file,
    validated,
)


class PatchSection(BaseModel):
    """What of a prepared mammogram the backbone sees.

    Parameters
    ----------
    size
        Side of the square in pixels of the input.
    tissue
        Smallest part of a background patch that is breast.
    clear
        A background patch shows at most this part of any mass.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(default=224, ge=32, multiple_of=32)
    tissue: float = Field(default=0.6, ge=0, le=1)
    clear: float = Field(default=0.1, ge=0, lt=1)


class PretrainSchedule(BaseModel):
    """How long: keys of a training's schedule, and what they mean there. The learning rate falls by a cosine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(ge=1)
    minutes: float | None = Field(default=None, gt=0)
    batch: int = Field(ge=2, multiple_of=2)
    warmup: int = Field(default=0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)

    @property
    def as_schedule(self) -> ScheduleSection:
        """The same in a training's words."""
        return ScheduleSection(
            iterations=self.iterations,
            minutes=self.minutes,
            batch=self.batch,
            decay="cosine",
            warmup=self.warmup,
            ema=self.ema,
        )


class PretrainRun(BaseModel):
    """Where a pretraining is kept and how often it reports: keys of a training's run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path | None = None
    seed: int = Field(default=1, ge=0)
    checkpoint_every: int = Field(default=200, ge=1)
    validate_every: int = Field(default=1000, ge=1)
    workers: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, ge=1)


class PretrainRecipe(BaseModel):
    """Everything a pretraining needs; sections of a training's recipe mean the same here.

    ``input`` is the scale: patches are cut from mammograms prepared as for a detector of that input.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    backbone: Literal[Backbone.RESNET50, Backbone.RESNET101]
    dataset: Path
    classes: tuple[str, ...] = Field(default=("Mass",), min_length=1)
    input: InputSection
    patch: PatchSection = PatchSection()
    augmentation: AugmentationSection = AugmentationSection()
    optimiser: OptimiserSection
    schedule: PretrainSchedule
    run: PretrainRun = PretrainRun()

    @model_validator(mode="after")
    def _parts_fit(self) -> "PretrainRecipe":
        if self.optimiser.backbone_factor != 1:
            raise ValueError("optimiser.backbone_factor: there is nothing but a backbone here; leave it out")
        if self.augmentation.copy_paste:
            raise ValueError("augmentation.copy_paste: a patch is of one class; leave it out")
        if self.patch.size > min(self.input.rows, self.input.columns):
            raise ValueError("patch.size: a patch is no larger than the input; make it smaller")
        return self

    @property
    def run_folder(self) -> Path:
        """Where the run is kept."""
        return self.run.folder or Path("runs") / self.name


def load_pretrain_recipe(path: Path, changes: tuple[str, ...] = ()) -> PretrainRecipe:
    """A pretraining's recipe from its TOML file; changes and errors as of `mammoscope.training.load_recipe`."""
    return validated(PretrainRecipe, read_recipe_file(path, changes), str(path))


_RECIPE = "pretrain.json"


def open_folder(recipe: PretrainRecipe, fingerprint: str) -> RunFolder:
    """The folder of a pretraining, new or to be gone on with; its checkpoints and curves are as a training's.

    Raises
    ------
    TrainingError
        If it holds a run of another recipe or on other data, or cannot be written. Of ``run``, only the seed makes
        another recipe.
    """
    folder = RunFolder(recipe.run_folder)
    file = folder.path / _RECIPE
    described = {
        "recipe": recipe.model_dump(mode="json"),
        "data_fingerprint": fingerprint,
        "mammoscope": __version__,
        "torch": torch.__version__,
    }
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            same = _what_decides(before) == _what_decides(described)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{file} is damaged: give run.folder another name") from error
        if not same:
            raise TrainingError(
                f"{folder.path} holds a pretraining by another recipe or on other data: give run.folder another name, "
                "or delete that folder to start anew"
            )
        return folder
    if folder.has_checkpoint:
        raise TrainingError(f"{folder.path} is the folder of another run: give run.folder another name")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(described, indent=2).encode())
    except OSError as error:
        raise TrainingError(
            f"the run's folder {folder.path} cannot be written: {error.strerror}; give run.folder another name"
        ) from error
    return folder


def log(folder: RunFolder, record: dict[str, Any]) -> None:
    """Add a line to the curves (``curves.jsonl``)."""
    try:
        with (folder.path / "curves.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
    except OSError as error:
        raise TrainingError(
            f"the curves of {folder.path} could not be written ({error.strerror}): the last checkpoint is safe; free "
            "disk space and start the same command again"
        ) from error


def _what_decides(described: dict[str, Any]) -> list[Any]:
    recipe = {**described["recipe"], "run": described["recipe"]["run"]["seed"]}
    return [recipe, described["data_fingerprint"]]
