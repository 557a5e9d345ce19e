"""The queue of a GPU machine: which commands run, in order of worth."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parts import PartsError

COMMANDS = ("train", "pretrain", "probe")
"""Mammoscope's, and ``probe``, which is `gpu/probe.py` on the recipes of ``candidates``."""


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
    minutes
        Of wall clock for it, or what is left of the command's where that is less: its schedule then ends all the same.
    candidates
        Of a probe: recipes that are tried beside ``recipe``.
    bring
        ``"weights"``: what comes home holds the slim checkpoint; ``"figures"``: curves and figures only.
    """

    name: str
    command: str
    recipe: str
    changes: tuple[str, ...] = ()
    after: str | None = None
    minutes: float | None = None
    candidates: tuple[str, ...] = ()
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
    lists = {key: tuple(entry.get(key, ())) for key in ("changes", "candidates")}
    stage = Stage(**{**entry, **lists})
    if stage.command not in COMMANDS:
        raise ValueError(f"the command of stage {stage.name} is one of {', '.join(COMMANDS)}")
    if stage.minutes is not None and not 0 < stage.minutes <= 60:
        raise ValueError(f"minutes of stage {stage.name} are more than 0 and at most 60")
    if stage.bring not in ("weights", "figures"):
        raise ValueError(f'bring of stage {stage.name} is "weights" or "figures"')
    return stage
