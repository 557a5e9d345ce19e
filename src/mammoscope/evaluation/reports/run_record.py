"""What a training run's folder says of it, read without torch: its recipe and its curves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammoscope.evaluation.matching import EvaluationError

_NOT_SHOWN = {  # places on the machine that trained, and what changes only how a run is carried out
    "data.dataset", "run.folder", "run.checkpoint_every", "run.validate_every", "run.workers", "run.threads",
}  # fmt: skip
_FILES = {"detector.weights", "start"}  # shown by their names
_JOINED = {
    "averaged": "the mean of their weights",
    "fused": "the detections of all are fused",
}  # how a bundle of several networks holds their recipes, and what that means
_MIRRORED = ", on the mammogram and on its mirror image"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run of `mammoscope train`.

    Parameters
    ----------
    recipe
        By section.
    made_with
        Versions by program.
    steps, validations
        The lines of ``curves.jsonl`` by iteration; of an iteration there twice (a killed run is resumed) the
        later line.
    """

    recipe: Mapping[str, Any]
    made_with: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    validations: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def read_run(folder: Path) -> RunRecord:
    """The record of a run.

    Raises
    ------
    EvaluationError
        If it is not a run's folder, or its curves are damaged.
    """
    try:
        described = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        recipe = dict(described["recipe"])
    except (OSError, ValueError, KeyError, TypeError):
        raise EvaluationError(
            f"{folder} is not the folder of a run: it has no readable recipe.json; give one that 'mammoscope train' "
            "made."
        ) from None
    curves = folder / "curves.jsonl"
    steps: dict[int, Mapping[str, Any]] = {}
    validations: dict[int, Mapping[str, Any]] = {}
    try:
        lines = curves.read_text(encoding="utf-8").splitlines() if curves.is_file() else []
        for line in map(json.loads, filter(str.strip, lines)):
            if "validation" in line:
                validations[int(line["iteration"])] = line["validation"]
            else:
                steps[int(line["iteration"])] = line
    except (OSError, ValueError, KeyError, TypeError):
        raise EvaluationError(f"the curves in {curves} cannot be read: a line is not what a run writes.") from None
    if (recipe.get("selection") or {}).get("keep", "last") == "last":
        _add_last_validation(folder, steps, validations)
    made_with = {name: str(described[name]) for name in ("mammoscope", "torch", "python") if name in described}
    return RunRecord(recipe, made_with, dict(sorted(steps.items())), dict(sorted(validations.items())))


def _add_last_validation(
    folder: Path, steps: Mapping[int, Mapping[str, Any]], validations: dict[int, Mapping[str, Any]]
) -> None:
    """The closing report's figures stand at the last iteration, where the run itself did not validate."""
    last = max((*steps, *validations), default=None)
    if last is None or last in validations:
        return
    try:
        metrics = json.loads((folder / "validation" / "metrics.json").read_text(encoding="utf-8"))
        validations[last] = {key: metrics[key] for key in ("ap50", "ap20", "f1")}
    except (OSError, ValueError, KeyError, TypeError):
        return


def networks_of(recipe: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The recipe of each network in a bundle, by its number; of a bundle of one, that recipe under ``"1"``."""
    for how in _JOINED:
        if how in recipe:
            return dict(recipe[how])
    return {"1": recipe}


def joined_how(recipe: Mapping[str, Any]) -> str:
    """In words, how a bundle's networks were made one; empty for a bundle of one network that looks once."""
    how = next((words for key, words in _JOINED.items() if key in recipe), "")
    return f"{how}{_MIRRORED if recipe.get('mirrored') else ''}".removeprefix(", ")


def recipe_lines(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(section.key, value) of each setting that is set, without places on a machine.

    Of several networks what they share is given once, and where they differ each one's value after its number.
    """
    networks = {number: dict(_settings(network)) for number, network in networks_of(recipe).items()}
    if len(networks) == 1 and not joined_how(recipe):
        return list(networks["1"].items())
    found = [("networks", f"{len(networks)}; {joined_how(recipe)}")]
    for path in dict.fromkeys(path for settings in networks.values() for path in settings):
        values = {number: settings.get(path, "none") for number, settings in networks.items()}
        same = len(set(values.values())) == 1
        each = "; ".join(f"network {number}: {value}" for number, value in values.items())
        found.append((path, next(iter(values.values())) if same else each))
    return found


def _settings(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in recipe.items():
        part = value if isinstance(value, Mapping) else {"": value}
        for key, setting in part.items():
            path = f"{name}.{key}".rstrip(".")
            if setting is not None and path not in _NOT_SHOWN:
                found.append((path, _written(path, setting)))
    return found


def _written(path: str, setting: Any) -> str:
    if isinstance(setting, bool):
        return str(setting).lower()
    if isinstance(setting, list | tuple):
        return ", ".join(str(part) for part in setting) or "none"
    return Path(str(setting)).name if path in _FILES else str(setting)
