"""A search over a recipe's numbers within a budget of minutes, judged on validation alone.

In: a recipe, and for some of its keys what they may be. Out: a folder with a run for each trial, ``study.db``
(optuna's), and ``tune.json``. The test split is never read.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammoscope.evaluation import FigureTable
from mammoscope.training.callbacks import Step, Watcher
from mammoscope.training.checkpoint import write_atomically
from mammoscope.training.data import load_data
from mammoscope.training.errors import TrainingError
from mammoscope.training.onnx_export import trained_detector
from mammoscope.training.recipe import Recipe, load_recipe
from mammoscope.training.trainer import train
from mammoscope.training.validation import ValidationImages

if TYPE_CHECKING:
    from optuna import Trial as Draw

_SUMMARY, _STUDY = "tune.json", "study.db"
_HOW = "KEY=LOW:HIGH, KEY=LOW:HIGH:log, or KEY=ONE,ANOTHER,..."
_FIRST_AT_RANDOM = 4
"""Trials drawn before the search learns from those before, and before one is given up for being worse than half."""


@dataclass(frozen=True, slots=True)
class Range:
    """What one key of a recipe may be.

    Parameters
    ----------
    key
        ``section.key``.
    low, high
        Of numbers; whole ones if both are.
    logarithmic
        Whether to draw evenly in the logarithm.
    choices
        As a recipe writes them, instead of numbers.
    """

    key: str
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False
    choices: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Range":
        """From ``KEY=LOW:HIGH``, ``KEY=LOW:HIGH:log`` or ``KEY=ONE,ANOTHER``.

        Raises
        ------
        TrainingError
            If it is neither.
        """
        key, _, values = (part.strip() for part in text.partition("="))
        if "." in key and "," in values:
            return cls(key, choices=tuple(one.strip() for one in values.split(",")))
        parts = values.split(":")
        try:
            low, high = (int(part) if part.strip().isdecimal() else float(part) for part in parts[:2])
        except ValueError:
            low, high = 0.0, 0.0
        logarithmic = parts[2:] == ["log"]
        if "." not in key or len(parts) != 2 + logarithmic or not low < high or (logarithmic and low <= 0):
            raise TrainingError(f"--over {text!r} is not understood: write it as {_HOW}, such as 1e-4:1e-2:log")
        return cls(key, low, high, logarithmic)

    def drawn(self, trial: "Draw") -> str:
        """A value, as a recipe writes it."""
        if self.choices:
            return str(trial.suggest_categorical(self.key, self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return str(trial.suggest_int(self.key, self.low, self.high, log=self.logarithmic))
        return repr(trial.suggest_float(self.key, self.low, self.high, log=self.logarithmic))


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a search; ``figure`` is ``None`` where it was given up or failed."""

    number: int
    values: dict[str, Any]
    figure: float | None
    state: str
    minutes: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """A search and what it found.

    Parameters
    ----------
    figure
        What was made as high as possible (`SelectionSection.figure`), on the validation images.
    best
        ``None`` where no trial came to its end.
    """

    recipe: str
    figure: str
    folder: Path
    trials: tuple[Trial, ...]
    best: Trial | None

    def table(self) -> FigureTable:
        """A row a trial, the best first."""
        keys = list(self.trials[0].values) if self.trials else []
        rows = sorted(self.trials, key=lambda trial: (trial.figure is None, -(trial.figure or 0), trial.number))
        return FigureTable(
            f"{self.figure} on validation, on which the best is chosen.",
            ("Trial", self.figure, "Minutes", *keys),
            tuple(
                (
                    str(trial.number + 1),
                    trial.state if trial.figure is None else f"{trial.figure:.3f}",
                    f"{trial.minutes:.1f}",
                    *(_told(trial.values.get(key)) for key in keys),
                )
                for trial in rows
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "folder": str(self.folder), "chosen_on": "validation"}


def _told(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tune(
    recipe_file: Path,
    ranges: Sequence[Range],
    *,
    minutes: float,
    trials: int,
    changes: tuple[str, ...] = (),
    watcher: Callable[[int], Watcher],
) -> Tuning:
    """Train a recipe again and again with other values, the more where figures were good (TPE, Bergstra et al. 2011).

    A trial that at one of its validations is worse than half of those before were there is given up. A search that was
    killed goes on: what ran then counts as failed, the minutes of the others as used.

    Parameters
    ----------
    recipe_file, changes
        As `load_recipe` takes them.
    minutes
        Of the whole search; each trial has its share of it as its ``schedule.minutes``, the last what is left. None
        begins when less than half a share is left.
    trials
        How many are planned.
    watcher
        Of a trial, by its number.

    Raises
    ------
    TrainingError
        If optuna is not installed, a range is of no key, the folder holds another search, or every trial failed.
    """
    optuna = _optuna()
    recipe = load_recipe(recipe_file, changes)
    _check(recipe_file, changes, ranges)
    folder = recipe.run_folder.with_name(f"{recipe.run_folder.name}-tune")
    study = _study(optuna, folder, recipe, ranges)
    data = load_data(recipe.data)
    validation = ValidationImages(data.narrowed("val"), recipe.input.geometry)
    share = minutes / trials

    def carried_out(trial: "Draw") -> float:
        own = (
            *changes,
            *(f"{one.key}={one.drawn(trial)}" for one in ranges),
            f"run.folder={json.dumps(str(folder / f'trial-{trial.number}'))}",
            f"schedule.minutes={min(share, minutes - _minutes_used(study))}",
        )
        tried = load_recipe(recipe_file, own)
        try:
            run = train(tried, _Judge(watcher(trial.number), trial, tried.selection.figure))
        except TrainingError as error:
            trial.set_user_attr("why", str(error))
            raise
        # An input of another size needs the images prepared otherwise.
        same = tried.input == recipe.input
        images = validation if same else ValidationImages(data.narrowed("val"), tried.input.geometry)
        return images.figures(trained_detector(run), tried.name).get(tried.selection.figure) or 0.0

    while len(study.trials) < trials and minutes - _minutes_used(study) > share / 2:
        study.optimize(carried_out, n_trials=1, catch=(TrainingError,))
        _forget_all_but_the_best(study, folder)
        _write(_summary(study, recipe, folder), folder)
    if all(trial.state.name == "FAIL" for trial in study.trials):
        raise TrainingError(f"no trial could be trained: {study.trials[0].user_attrs.get('why', 'all were killed')}")
    return _summary(study, recipe, folder)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise TrainingError("'mammoscope tune' needs optuna: run pip install 'mammoscope[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _check(recipe_file: Path, changes: tuple[str, ...], ranges: Sequence[Range]) -> None:
    """Refuse a range that no recipe allows before a minute is spent on it."""
    if not ranges:
        raise TrainingError(f"nothing to search: name at least one key with --over {_HOW}")
    for one in ranges:
        for value in one.choices or (repr(one.low), repr(one.high)):
            load_recipe(recipe_file, (*changes, f"{one.key}={value}"))


def _study(optuna: Any, folder: Path, recipe: Recipe, ranges: Sequence[Range]) -> Any:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"the search's folder {folder} cannot be made: {error.strerror}") from error
    study = optuna.create_study(
        storage=f"sqlite:///{folder / _STUDY}",
        study_name=recipe.name,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_FIRST_AT_RANDOM),
    )
    searched = sorted(str(one) for one in ranges)
    if study.user_attrs.setdefault("ranges", searched) != searched:
        raise TrainingError(f"{folder} holds a search over other ranges: give run.folder another name, or delete it")
    study.set_user_attr("ranges", searched)
    # A search that goes on draws anew, not what it drew before.
    seed = recipe.run.seed + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_FIRST_AT_RANDOM)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


class _Judge:
    """Hands on what a training tells, and gives it up where optuna says so."""

    def __init__(self, watcher: Watcher, trial: "Draw", figure: str) -> None:
        self._watcher = watcher
        self._trial = trial
        self._figure = figure

    def noted(self, told: str) -> None:
        self._watcher.noted(told)

    def prepared(self, done: int, total: int) -> None:
        self._watcher.prepared(done, total)

    def resumed(self, iteration: int) -> None:
        self._watcher.resumed(iteration)

    def stepped(self, step: Step) -> None:
        self._watcher.stepped(step)

    def validated(self, iteration: int, figures: dict[str, Any]) -> None:
        import optuna

        self._watcher.validated(iteration, figures)
        self._trial.report(figures.get(self._figure) or 0.0, iteration)
        if self._trial.should_prune():
            raise optuna.TrialPruned

    def stopped_early(self, iteration: int, best: int) -> None:
        self._watcher.stopped_early(iteration, best)


def _minutes_used(study: Any) -> float:
    return sum(_minutes_of(trial) for trial in study.trials)


def _minutes_of(trial: Any) -> float:
    return float(trial.duration.total_seconds() / 60) if trial.duration else 0.0


def _forget_all_but_the_best(study: Any, folder: Path) -> None:
    """Weights are large: those of the best trial stay, of the others recipe and curves."""
    best = _best(study)
    for trial in study.trials:
        if best is None or trial.number != best.number:
            for file in (folder / f"trial-{trial.number}").glob("*.pt"):
                file.unlink()


def _best(study: Any) -> Any:
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    return max(finished, key=lambda trial: (trial.value, -trial.number), default=None)


def _summary(study: Any, recipe: Recipe, folder: Path) -> Tuning:
    trials = {
        trial.number: Trial(
            trial.number,
            dict(trial.params),
            trial.value if trial.state.name == "COMPLETE" else None,
            {"COMPLETE": "finished", "PRUNED": "given up", "FAIL": "failed"}.get(trial.state.name, "running"),
            round(_minutes_of(trial), 2),
        )
        for trial in study.trials
    }
    best = _best(study)
    return Tuning(recipe.name, recipe.selection.figure, folder, tuple(trials.values()), best and trials[best.number])


def _write(tuning: Tuning, folder: Path) -> None:
    write_atomically(folder / _SUMMARY, json.dumps(tuning.to_json(), indent=2).encode())
