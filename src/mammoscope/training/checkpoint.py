"""Checkpoints that survive a kill at any moment, and the folder of a run.

Which code on which kind of machine made a run; no names of machines, people or folders.
"""

import json
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

import mammoscope
from mammoscope import __version__
from mammoscope.training.errors import TrainingError
from mammoscope.training.recipe import Recipe, parse_recipe

_CHECKPOINT = "checkpoint.pt"
_BEST = "best.pt"
_RECIPE = "recipe.json"
_STARTS = "starts.jsonl"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run after ``iteration`` optimiser steps and that many minutes.

    Parameters
    ----------
    detector
        The state that learns on.
    averaged
        The averaged state; ``None`` where the recipe asks for none.
    scale
        Of the loss in fp16; empty otherwise.
    selection
        What validation decided so far (`mammoscope.training.callbacks.Selection`); empty before the first.
    course
        Of the schedule (`mammoscope.training.optim.Course`); empty in a checkpoint of an older version.
    """

    iteration: int
    minutes: float
    detector: dict[str, Tensor]
    averaged: dict[str, Tensor] | None
    optimiser: dict[str, Any]
    scale: dict[str, Any] = field(default_factory=dict)
    selection: dict[str, Any] = field(default_factory=dict)
    course: dict[str, Any] = field(default_factory=dict)

    @property
    def best_state(self) -> dict[str, Tensor]:
        """The state to validate and export: the averaged one where there is one."""
        return self.averaged if self.averaged is not None else self.detector


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Everything a run leaves: recipe, data fingerprint, starts, curves, checkpoints, validation report."""

    path: Path

    @classmethod
    def open(cls, path: Path, recipe: Recipe, fingerprint: str) -> "RunFolder":
        """The folder of a run, new or to be gone on with.

        Raises
        ------
        TrainingError
            If it holds a run of another recipe or on other data, or cannot be written. Of ``run``, only the seed
            makes another recipe; a budget of iterations or minutes may change. Without a checkpoint there is nothing to
            lose: a start that failed binds nobody.
        """
        folder = cls(path)
        described = {
            "recipe": recipe.model_dump(mode="json"),
            "data_fingerprint": fingerprint,
            "mammoscope": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        content = json.dumps(described, indent=2).encode()
        file = path / _RECIPE
        if not (folder.has_checkpoint and file.is_file()):
            try:
                path.mkdir(parents=True, exist_ok=True)
                # Of several processes the first has written it: the others must not write into one file at once.
                if not (file.is_file() and file.read_bytes() == content):
                    write_atomically(file, content)
            except OSError as error:
                raise TrainingError(
                    f"the run's folder {path} cannot be written: {error.strerror}; give run.folder another name"
                ) from error
            return folder
        before, now = _what_decides(folder.recipe()), _what_decides(recipe)
        if before != now:
            raise TrainingError(
                f"{path} holds a run of another recipe ({_first_difference(before, now)} differs): give run.folder "
                "another name, or delete that folder to start anew"
            )
        if folder.description()["data_fingerprint"] != fingerprint:
            raise TrainingError(
                f"{path} holds a run on other data: the data set has changed since; give run.folder another name"
            )
        noted = folder.recipe()
        # Moved data: export looks for them where they are now. Another budget: the run's schedule follows it.
        if (noted.data.dataset, noted.schedule) != (recipe.data.dataset, recipe.schedule):
            folder._note_changes(recipe)
        return folder

    def _note_changes(self, recipe: Recipe) -> None:
        described, now = self.description(), recipe.model_dump(mode="json")
        described["recipe"]["data"]["dataset"] = now["data"]["dataset"]
        described["recipe"]["schedule"] = now["schedule"]
        try:
            write_atomically(self.path / _RECIPE, json.dumps(described, indent=2).encode())
        except OSError as error:
            raise TrainingError(f"the run's folder {self.path} cannot be written: {error.strerror}") from error

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to resume from."""
        return (self.path / _CHECKPOINT).is_file()

    def description(self) -> dict[str, Any]:
        """What `open` wrote: recipe, data fingerprint, versions.

        Raises
        ------
        TrainingError
            If the folder is not a run's.
        """
        try:
            described: dict[str, Any] = json.loads((self.path / _RECIPE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{self.path} is not the folder of a run: it has no readable {_RECIPE}; give the folder that "
                "'mammoscope train' named"
            ) from error
        return described

    def recipe(self) -> Recipe:
        """The run's recipe."""
        return parse_recipe(self.description()["recipe"], str(self.path / _RECIPE))

    def started(self, facts: dict[str, Any]) -> None:
        """Note a start of the run (``starts.jsonl``): which code and machine, from which iteration."""
        try:
            with (self.path / _STARTS).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(facts) + "\n")
        except OSError as error:
            raise TrainingError(
                f"the run's folder {self.path} cannot be written: {error.strerror}; free disk space or give run.folder "
                "another name"
            ) from error

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint to resume from; the one before stays until this one is whole on disk.

        Raises
        ------
        TrainingError
            If the disk is full or cannot be written.
        """
        self._write(_CHECKPOINT, {field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)})

    def save_best(self, state: dict[str, Tensor], iteration: int, figure: float) -> None:
        """Write the weights of the best validation so far; raises as `save` does."""
        self._write(_BEST, {"state": state, "iteration": iteration, "figure": figure})

    def _write(self, name: str, content: dict[str, Any]) -> None:
        file = self.path / name
        partial = file.with_suffix(".part")
        try:
            with partial.open("wb") as opened, _interrupts_wait():
                _save_to(_Stream(opened), content)
                os.fsync(opened.fileno())
                partial.replace(file)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise TrainingError(
                f"the checkpoint {file} could not be written ({getattr(error, 'strerror', None) or error}): "
                f"{what_is_kept(self.path)}; free disk space and start the same command again"
            ) from error

    def load(self) -> Checkpoint:
        """The last checkpoint.

        Raises
        ------
        TrainingError
            If there is none or it is damaged.
        """
        file = self.path / _CHECKPOINT
        if not file.is_file():
            raise TrainingError(f"{self.path} has no checkpoint yet: train longer, or give another run's folder")
        try:
            return Checkpoint(**torch.load(file, map_location="cpu", weights_only=True))
        except Exception as error:
            raise TrainingError(f"the checkpoint {file} is damaged: delete it to train from the start") from error

    def chosen_state(self) -> tuple[dict[str, Tensor], int]:
        """The weights to report and export, and after how many iterations they were.

        The last ones, or with ``selection.keep = "best"`` those of the best validation.

        Raises
        ------
        TrainingError
            If there are none or they are damaged.
        """
        checkpoint = self.load()
        file = self.path / _BEST
        if self.recipe().selection.keep == "last":
            return checkpoint.best_state, checkpoint.iteration
        if not file.is_file():
            raise TrainingError(
                f"{self.path} has no {_BEST} yet, as no validation has found a lesion: train longer, or give another "
                "run's folder"
            )
        try:
            best = torch.load(file, map_location="cpu", weights_only=True)
            return best["state"], best["iteration"]
        except Exception as error:
            raise TrainingError(f"the checkpoint {file} is damaged: delete the run's folder and train again") from error


def what_is_kept(folder: Path) -> str:
    """What a run that cannot write any more leaves: for the sentence that says why."""
    if (folder / _CHECKPOINT).is_file():
        return "the last checkpoint is safe"
    return "there is no checkpoint yet, so the run begins anew"


class _Stream:
    """A file that remembers why it could not be written: torch says of every error that its own count is off."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.failed: OSError | None = None

    def write(self, content: bytes) -> int:
        with self._remembering():
            return self._stream.write(content)

    def flush(self) -> None:
        with self._remembering():
            self._stream.flush()

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = error
            raise


def _save_to(stream: _Stream, content: dict[str, Any]) -> None:
    try:
        torch.save(content, cast(IO[bytes], stream))
        stream.flush()
    except RuntimeError:
        if stream.failed is not None:
            raise stream.failed from None
        raise


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C take effect when the block has ended: in the midst of `torch.save` it would look like a full disk."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file that is either whole or not there (or still the one before)."""
    partial = file.with_name(file.name + ".part")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _what_decides(recipe: Recipe) -> dict[str, Any]:
    """A recipe without what changes only how a run is carried out: a killed run may be resumed with fewer workers.

    Where the data set lies is not among it: its fingerprint tells whether it is the same.
    """
    described = recipe.model_dump(mode="json")
    described["run"] = {"seed": recipe.run.seed}
    described["data"].pop("dataset")
    # A run may be resumed with more or less time than it began with: its schedule follows (`Course`).
    del described["schedule"]["minutes"], described["schedule"]["iterations"]
    return described


def _first_difference(one: Any, other: Any, path: str = "") -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                return _first_difference(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    return path or "everything"


_PACKAGES = ("accelerate", "numpy", "opencv-python-headless", "timm", "torch", "torchvision")


def provenance(device: torch.device, processes: int) -> dict[str, Any]:
    """Versions, commit and hardware, for ``starts.jsonl``.

    Parameters
    ----------
    device
        What the networks learn on.
    processes
        How many learn together.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "mammoscope": mammoscope.__version__,
        **code_version(Path(mammoscope.__file__).parent),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "processes": processes,
    }


def code_version(package: Path) -> dict[str, Any]:
    """Commit of the checkout that a package runs from, and whether it was modified since; empty without one."""
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(package, "rev-parse", "HEAD")
    # An installed copy may lie inside somebody else's checkout, whose commit says nothing about it.
    if tracked is None or commit is None:
        return {}
    changes = _git(package, "status", "--porcelain", "--", ".")
    return {"commit": commit, "modified": changes != ""}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
