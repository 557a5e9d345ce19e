"""A recipe: one TOML file that says everything a training needs."""

import importlib.resources
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mammoscope.detectors import DetectorSpec, ExtensionPoint, Layout
from mammoscope.detectors.extensions import names_an_extension
from mammoscope.errors import what_is_wrong
from mammoscope.imaging import Crop, Preprocessing
from mammoscope.training.errors import TrainingError

_Kind = TypeVar("_Kind", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSection(_Section):
    """What of a mammogram the network sees, and at which size in pixels."""

    rows: int = Field(ge=32, multiple_of=32)
    columns: int = Field(ge=32, multiple_of=32)
    crop: Crop = Crop.BREAST

    @property
    def geometry(self) -> Preprocessing:
        """The same in imaging's words."""
        return Preprocessing(self.rows, self.columns, self.crop)


class OwnAugmentation(_Section):
    """An augmentation that another package brings.

    Parameters
    ----------
    use
        A dotted path (``package.module:name``) or the name of an entry point ``mammoscope.augmentations``. Called with
        the options, it returns a function of one picture, a tensor (rows, columns) from 0 to 1 on the device that
        learns, its boxes (k, 4) in pixels of it, and a `numpy.random.Generator` to draw from, which returns the changed
        picture and as many boxes; a box that is less than a pixel wide or high then is dropped.
    options
        What it is called with.
    """

    use: str
    options: dict[str, Any] = {}

    @field_validator("use")
    @classmethod
    def _names_one(cls, use: str) -> str:
        if not names_an_extension(ExtensionPoint.AUGMENTATION, use):
            raise ValueError(
                f"there is no augmentation {use}: write package.module:name, or the name of an entry point "
                f"{ExtensionPoint.AUGMENTATION} of an installed package"
            )
        return use


class AugmentationSection(_Section):
    """Random changes of each training image; the paper's five first.

    Parameters
    ----------
    horizontal_flip, vertical_flip
        Probabilities.
    rotation_degrees
        Largest angle to either side.
    brightness, contrast
        Largest relative change: 0.2 means a factor from 0.8 to 1.2.
    saturation
        As the paper lists it. A mammogram is grey, so it changes nothing; kept so that its recipes say what it did.
    gamma
        Largest relative change of the exponent, log-uniform.
    curve
        Largest relative change of a tone curve's slope, in each of four parts of it.
    zoom
        Smallest and largest scale.
    aspect
        Largest relative change of width over height, log-uniform.
    shift
        Largest translation as a part of the side.
    noise
        Largest standard deviation of added Gaussian noise, pixels from 0 to 1.
    blur
        Largest standard deviation of a Gaussian blur in pixels.
    sharpen
        Largest strength of unsharp masking: 1 doubles what a blur of 1 to 4 pixels takes away.
    copy_paste
        Probability that a mass of another training image is blended into the breast first.
    custom
        Those of other packages, after all of these, in their order.
    """

    horizontal_flip: float = Field(default=0.5, ge=0, le=1)
    vertical_flip: float = Field(default=0.0, ge=0, le=1)
    rotation_degrees: float = Field(default=0.0, ge=0, le=180)
    brightness: float = Field(default=0.0, ge=0, lt=1)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    saturation: float = Field(default=0.0, ge=0, lt=1)
    gamma: float = Field(default=0.0, ge=0, lt=1)
    curve: float = Field(default=0.0, ge=0, le=4)
    zoom: tuple[float, float] = (1.0, 1.0)
    aspect: float = Field(default=0.0, ge=0, lt=1)
    shift: float = Field(default=0.0, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0, lt=1)
    blur: float = Field(default=0.0, ge=0, le=5)
    sharpen: float = Field(default=0.0, ge=0, le=5)
    copy_paste: float = Field(default=0.0, ge=0, le=1)
    custom: tuple[OwnAugmentation, ...] = ()

    @model_validator(mode="after")
    def _zoom_is_a_range(self) -> "AugmentationSection":
        if not 0.1 <= self.zoom[0] <= self.zoom[1] <= 10:
            raise ValueError("zoom is a smallest and a largest scale, between 0.1 and 10")
        return self


class OptimiserSection(_Section):
    """How weights move. ``backbone_factor`` multiplies the learning rate of the backbone."""

    kind: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(gt=0)
    backbone_factor: float = Field(default=1.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)


class ScheduleSection(_Section):
    """How long and how fast.

    Parameters
    ----------
    iterations
        Optimiser steps.
    minutes
        A budget of wall-clock time. The learning rate then falls by whichever is further on, steps or minutes, so
        that a run on a shared or lent machine ends well; also if it is resumed with another budget than it began with.
    batch
        Images per optimiser step.
    accumulate
        How many parts a batch is computed in, to fit a small GPU.
    decay
        ``"steps"``: times ``factor`` at each of ``milestones``; ``"cosine"``: to zero.
    warmup
        Iterations of linear warm-up.
    ema
        Decay of the averaged weights that are validated and exported; 0 for none.
    precision
        Of the network's arithmetic while it learns: ``"bf16"`` and ``"fp16"`` halve time and memory on a GPU (automatic
        mixed precision). Weights, losses and boxes are ``"fp32"`` always.
    """

    iterations: int = Field(ge=1)
    minutes: float | None = Field(default=None, gt=0)
    batch: int = Field(ge=1)
    accumulate: int = Field(default=1, ge=1)
    decay: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = ()
    factor: float = Field(default=0.1, gt=0, lt=1)
    warmup: int = Field(default=0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    @model_validator(mode="after")
    def _parts_are_whole(self) -> "ScheduleSection":
        if self.batch % self.accumulate:
            raise ValueError(f"batch = {self.batch} does not divide into accumulate = {self.accumulate} parts")
        return self


class SamplingSection(_Section):
    """Which images are shown how often.

    Parameters
    ----------
    repeat_threshold
        Repeat-factor sampling (Gupta, Dollar and Girshick 2019): images with a class that fewer than this share of the
        images hold are shown more often, by the root of threshold over share; 0 for none.
    without_boxes
        Share of the images shown that hold no box; ``None`` leaves it as the data set has it.
    hard_negatives
        How many times as often an image is shown on which readers rejected a box (the attribute ``hard_negatives`` that
        the reading room exports); 1 for no more often than others.
    """

    repeat_threshold: float = Field(default=0.0, ge=0, le=1)
    hard_negatives: float = Field(default=2.0, ge=1, le=100)
    without_boxes: float | None = Field(default=None, ge=0, lt=1)


class SelectionSection(_Section):
    """What the figures on validation decide.

    Parameters
    ----------
    figure
        Which of them; ``"map50"`` is the mean over the classes, the others count a hit whatever the class.
    keep
        ``"last"``: the last weights are reported and exported; ``"best"``: those of the best validation.
    patience
        The run ends after so many validations in a row without a better figure; ``None`` for never.
    """

    figure: Literal["ap50", "map50", "ap20", "f1", "froc_mean"] = "ap50"
    keep: Literal["last", "best"] = "last"
    patience: int | None = Field(default=None, ge=1)

    @property
    def decides(self) -> bool:
        """Whether a validation changes how the run continues."""
        return self.keep == "best" or self.patience is not None


Tracker = Literal["mlflow", "wandb"]
"""An experiment tracker that accelerate speaks to."""


class RunSection(_Section):
    """Where a run is kept and how often it reports.

    Parameters
    ----------
    folder
        Of the run, relative to the working directory; ``None`` for ``runs/NAME``.
    checkpoint_every, validate_every
        Iterations. A checkpoint is also written when a minute has gone since the last.
    workers
        Processes that prepare a pretraining's patches. A training's batches are changed on the device that learns and
        need none: accepted and without effect there.
    threads
        Of torch on a CPU; ``None`` leaves it to torch.
    tensorboard
        Whether to write the curves for TensorBoard, too.
    trackers
        Experiment trackers that get recipe and curves as well, through accelerate: ``"mlflow"``, ``"wandb"``. Their
        packages are installed by whoever uses them and set by their own environment variables, where the curves go,
        too: a tracker's server is somebody else's machine.
    """

    folder: Path | None = None
    seed: int = Field(default=1, ge=0)
    checkpoint_every: int = Field(default=200, ge=1)
    validate_every: int = Field(default=1000, ge=1)
    workers: int | None = Field(default=None, ge=0)
    threads: int | None = Field(default=None, ge=1)
    tensorboard: bool = False
    trackers: tuple[Tracker, ...] = ()


class DataSection(_Section):
    """The data set's folder, relative to the working directory, and its words for the bundle.

    Parameters
    ----------
    source, licence
        What it is called and under which licence it may be used: they travel with the model.
    fold
        Validate on this fold and learn from the others (`mammoscope.datasets.divide_into_folds`); ``None`` for the
        data set's splits.
    label_from
        The attribute of a box, or of its image, that is its label (``"pathology"``); ``None`` for its COCO category.
    labels
        Label to class; one that is not listed is its own class.
    leave_out
        Labels that make an image unfit to learn from or to validate on.
    validated_only
        Learn from and validate on images alone whose boxes an expert confirmed (`mammoscope dataset review`).
    count_unannotated
        Take images that nobody annotated for images without a lesion; else they are set aside.
    """

    dataset: Path
    source: str
    licence: str
    fold: int | None = Field(default=None, ge=1)
    label_from: str | None = None
    labels: dict[str, str] = {}
    leave_out: tuple[str, ...] = ()
    validated_only: bool = False
    count_unannotated: bool = False


class DistillSection(_Section):
    """Learn from another run's network beside the boxes: its scores and boxes on the same changed pictures.

    Parameters
    ----------
    teacher
        Folder of a finished run of a RetinaNet with the same classes, whose anchors are as large a part of its input as
        the student's; or several, whose scores and boxes are averaged.
    weight
        Of what it says beside the boxes.
    """

    teacher: Path | tuple[Path, ...]
    weight: float = Field(default=1.0, gt=0)

    @property
    def teachers(self) -> tuple[Path, ...]:
        """Their folders."""
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)


class Recipe(_Section):
    """Everything a training needs.

    Parameters
    ----------
    start
        Folder of a finished run whose weights (the averaged ones, if it has them) this one begins with, a bundle
        (``.onnx``) of one run, or ``"shipped"``: the bundle that comes with Mammoscope. Its detector must have the same
        tensors.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    start: Path | None = None
    data: DataSection
    input: InputSection
    detector: DetectorSpec
    augmentation: AugmentationSection = AugmentationSection()
    optimiser: OptimiserSection
    schedule: ScheduleSection
    sampling: SamplingSection = SamplingSection()
    selection: SelectionSection = SelectionSection()
    distill: DistillSection | None = None
    run: RunSection = RunSection()

    @property
    def run_folder(self) -> Path:
        """Where the run is kept; that of a fold lies within that of the whole."""
        folder = self.run.folder or Path("runs") / self.name
        return folder if self.data.fold is None else folder / f"fold-{self.data.fold}"


def load_recipe(path: Path, changes: tuple[str, ...] = ()) -> Recipe:
    """A recipe from its file.

    Parameters
    ----------
    path
        The TOML file.
    changes
        ``section.key=value`` (values as in TOML) that replace what the file says.

    Raises
    ------
    TrainingError
        If the file cannot be read, is not TOML, or a key or value is not one of a recipe's.
    """
    return parse_recipe(read_recipe_file(path, changes), str(path))


def parse_recipe(content: dict[str, Any], origin: str) -> Recipe:
    """A recipe from TOML's plain types; `TrainingError` names the origin and the first key that is wrong."""
    return validated(Recipe, content, origin)


def read_recipe_file(path: Path, changes: tuple[str, ...]) -> dict[str, Any]:
    """What a recipe's file says, changes made, unchecked; raises as `load_recipe`."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(
            f"the recipe {path} cannot be read: {error.strerror}; give the path of a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"the recipe {path} is not TOML: {error}") from error
    for change in changes:
        _apply(content, change)
    return content


def validated(kind: type[_Kind], content: dict[str, Any], origin: str) -> _Kind:
    """Plain types as a recipe of that kind; `TrainingError` names the origin and the first key that is wrong."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = what_is_wrong(first)
        if first["type"] == "extra_forbidden":
            message = f"a recipe has no such key; {_meant(kind, first['loc'])}"
        raise TrainingError(f"the recipe {origin}: {key or 'the whole'}: {message}") from error


def _meant(kind: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """The key that an unknown one is most like, of its section first, then of any."""
    sections = {
        name: list(field.annotation.model_fields)
        for name, field in kind.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    wrong = str(place[-1])
    own = list(kind.model_fields) if len(place) == 1 else sections.get(str(place[0]), [])
    if alike := get_close_matches(wrong, own, 1, 0.6):
        return f"did you mean {'.'.join([*map(str, place[:-1]), alike[0]])}?"
    elsewhere = [f"{section}.{wrong}" for section, keys in sections.items() if wrong in keys]
    return f"did you mean {elsewhere[0]}?" if elsewhere else "remove it or correct its spelling"


def published_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a bundle keeps it: without places on this machine, weights of a file by the file's name."""
    described = recipe.model_dump(mode="json")
    described["run"] = {"seed": recipe.run.seed}
    described["data"].pop("dataset")
    if recipe.detector.layout is not Layout.DETECTRON2:
        described["detector"].pop("detectron2")
    # Left out where unused, so that a model's version, a hash of this, stays what it was.
    for section, key in (("detector", "options"), ("augmentation", "custom")):
        if not described[section][key]:
            described[section].pop(key)
    described["detector"]["weights"] = Path(str(described["detector"]["weights"])).name
    if described["distill"] is None:
        described.pop("distill")
    else:
        described["distill"]["teacher"] = [one.name for one in recipe.distill.teachers] if recipe.distill else []
    if described.get("start"):
        described["start"] = Path(str(described["start"])).name
    return described


def recipe_file(name: Path) -> Path:
    """A recipe's file: the path itself, or the recipe of that name that comes with Mammoscope.

    Raises
    ------
    TrainingError
        If there is neither; it names the recipes there are.
    """
    if name.is_file() or name.suffix == ".toml":
        return name
    folder = shipped_recipes()
    file = folder / f"{name.as_posix()}.toml"
    if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
        return file
    there = sorted(one.relative_to(folder).with_suffix("").as_posix() for one in folder.rglob("*.toml"))
    alike = get_close_matches(name.as_posix(), there, 1, 0.6)
    hint = f"did you mean {alike[0]}? " if alike else ""
    raise TrainingError(f"there is no recipe {name}: {hint}give the path of a TOML file, or one of {', '.join(there)}")


def shipped_recipes() -> Path:
    """The folder of the recipes that come with Mammoscope: in the installed package, or beside its source."""
    package = Path(str(importlib.resources.files("mammoscope")))
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent.parent / "recipes"


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    *sections, last = key.strip().split(".")
    target = content
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            equals = ""
            break
    if not equals or not last:
        raise TrainingError(f"the change '{change}' is not understood: write it as section.key=value")
    target[last] = parsed
