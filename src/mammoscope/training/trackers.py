"""Experiment trackers where researchers have them: MLflow and Weights & Biases, through accelerate's interface.

In: the names a recipe asks for, and the records of the curves. Out: the same numbers in each tracker. Off by default:
nothing leaves the machine unless a recipe says so.
"""

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from mammoscope.training.errors import TrainingError
from mammoscope.training.recipe import Recipe, published_recipe

_log = logging.getLogger(__name__)
_PROJECT = "mammoscope"


class Trackers:
    """Trackers of one run; one that fails is left out from then on, as its loss must not cost a training.

    Parameters
    ----------
    trackers
        Begun already.
    """

    def __init__(self, trackers: Sequence[GeneralTracker] = ()) -> None:
        self._trackers = list(trackers)

    def add(self, record: dict[str, Any]) -> None:
        """The numbers of one record of the curves, at its iteration."""
        if not self._trackers:
            return
        values = dict(numbers(record))
        for tracker in list(self._trackers):
            self._tell(tracker, "log", values, step=record["iteration"])

    def close(self) -> None:
        """Let all of them write what they have."""
        for tracker in list(self._trackers):
            self._tell(tracker, "finish")
        self._trackers = []

    def _tell(self, tracker: GeneralTracker, method: str, *arguments: Any, **keywords: Any) -> None:
        try:
            getattr(tracker, method)(*arguments, **keywords)
        except Exception as error:  # whatever a tracker's server or package does
            self._trackers.remove(tracker)
            _log.warning(
                "the tracker %s failed (%s: %s) and is left out; the training goes on",
                tracker.name, type(error).__name__, error,
            )  # fmt: skip


def start_trackers(recipe: Recipe, accelerator: Accelerator) -> Trackers:
    """Those of a recipe, begun, with the recipe as the run's configuration.

    Raises
    ------
    TrainingError
        If the package of one is not installed, or it cannot be begun.
    """
    names = recipe.run.trackers
    if not names:
        return Trackers()
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise TrainingError(
            f"run.trackers needs the package {' and '.join(missing)}: run pip install {' '.join(missing)}, or take the "
            "name out"
        )
    accelerator.log_with = list(names)
    described = {"name": recipe.name, **published_recipe(recipe)}
    own = {"mlflow": {"run_name": recipe.name}, "wandb": {"name": recipe.name}}
    try:
        accelerator.init_trackers(_PROJECT, config=dict(_flat(described)), init_kwargs=own)
    except Exception as error:
        raise TrainingError(
            f"the trackers {', '.join(names)} could not be begun ({type(error).__name__}: {error}): see to their "
            "settings, or take run.trackers out of the recipe"
        ) from error
    return Trackers(accelerator.trackers)


def numbers(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """(name, value) of every number in a record but its iteration; names of nested ones with a slash."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "iteration":
            yield f"{prefix}{name}", value


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str | int | float | bool) else str(value)
