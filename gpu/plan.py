"""The queue of a GPU machine: which commands run, in order of worth."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parts import PartsError

COMMANDS = ("train", "pretrain")


@dataclass(frozen=True)
class Stage:
    """One `mammoscope` command.

    Parameters
    ----------
    name
        Of the stage, of its run's folder under ``runs/``, and of what comes home.
    recipe
        Relative to the repository.
    changes
        As after ``--set``.
    after
        A stage that must be done before.
    bring
        ``"weights"``: what comes home holds the slim checkpoint; ``"figures"``: curves and figures only.
    """

    name: str
    command: str
    recipe: str
    changes: tuple[str, ...] = ()
    after: str | None = None
    bring: str = "weights"


@dataclass(frozen=True)
class Plan:
    """A queue.

    Parameters
    ----------
    lanes
        How many stages run at once, so that the GPU works while one of them reads or validates.
    environment
        Set for every stage.
    """

    stages: tuple[Stage, ...]
    lanes: int = 1
    environment: dict[str, str] = field(default_factory=dict)


def read_plan(path: Path) -> Plan:
    """A plan from its TOML file.

    Raises
    ------
    PartsError
        If it cannot be read or is not a plan.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        stages = tuple(_stage(entry) for entry in content.pop("stage"))
        plan = Plan(stages, content.pop("lanes", 1), content.pop("environment", {}))
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise PartsError(f"{path} is not a plan: {error}") from error
    names = [stage.name for stage in stages]
    unknown = sorted({stage.after for stage in stages if stage.after} - set(names))
    problems = [
        (bool(content), f"it has the unknown key {next(iter(content), '')}"),
        (len(set(names)) < len(names), "two stages have one name"),
        (bool(unknown), f"no stage is called {next(iter(unknown), '')}"),
        (plan.lanes < 1, "lanes must be at least 1"),
    ]
    for is_so, problem in problems:
        if is_so:
            raise PartsError(f"{path} is not a plan: {problem}")
    return plan


def _stage(entry: dict[str, Any]) -> Stage:
    stage = Stage(**{**entry, "changes": tuple(entry.get("changes", ()))})
    if stage.command not in COMMANDS:
        raise ValueError(f"the command of stage {stage.name} is one of {', '.join(COMMANDS)}")
    if stage.bring not in ("weights", "figures"):
        raise ValueError(f'bring of stage {stage.name} is "weights" or "figures"')
    return stage
