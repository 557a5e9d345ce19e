"""What a training run's folder says of it, read without torch: its recipe and its curves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammoscope.evaluation.errors import EvaluationError

_NOT_SHOWN = {  # places on the machine that trained, and what changes only how a run is carried out
    "data.dataset", "run.folder", "run.checkpoint_every", "run.validate_every", "run.workers", "run.threads",
}  # fmt: skip
_FILES = {"detector.weights", "start"}  # shown by their names


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
        The lines of ``curves.jsonl`` by iteration; of an iteration that stands there twice (a killed run goes on) the
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
    made_with = {name: str(described[name]) for name in ("mammoscope", "torch", "python") if name in described}
    return RunRecord(recipe, made_with, dict(sorted(steps.items())), dict(sorted(validations.items())))


def recipe_lines(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(section.key, value) of each setting that is set, without places on a machine."""
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
