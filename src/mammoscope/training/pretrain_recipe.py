"""A recipe for pretraining a backbone on patches."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mammoscope.detectors import Backbone
from mammoscope.training.recipe import (
    AugmentationSection,
    InputSection,
    OptimiserSection,
    RunSection,
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
    schedule: ScheduleSection
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _the_whole_batch_at_once(self) -> "PretrainRecipe":
        if self.schedule.accumulate != 1:
            raise ValueError("schedule.accumulate: batch norm needs the whole batch at once; leave it out")
        if self.schedule.batch % 2:
            raise ValueError("schedule.batch: half of a batch are masses, so it must be even")
        if self.optimiser.backbone_factor != 1:
            raise ValueError("optimiser.backbone_factor: there is nothing but a backbone here; leave it out")
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
