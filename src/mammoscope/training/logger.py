"""The curves of a run: ``curves.jsonl``, and the same for TensorBoard where it is asked for."""

import json
import shutil
from pathlib import Path
from typing import Any

from mammoscope.training.checkpoint import what_is_kept, write_atomically
from mammoscope.training.errors import TrainingError
from mammoscope.training.trackers import Trackers, numbers

_FILE = "curves.jsonl"
_TENSORBOARD = "tensorboard"


class Curves:
    """Records of one run, each with its ``iteration``; what a kill left behind the last checkpoint is taken back.

    Parameters
    ----------
    folder
        The run's.
    iteration
        Where the run begins or resumes: later records go, as the run will write them again.
    tensorboard
        Whether to write for TensorBoard, too: its folder is made anew from the records, so no point stands twice.
    trackers
        Get the records, too, those of before a kill at once: a run of theirs is one start of this run.

    Raises
    ------
    TrainingError
        If they cannot be written, or tensorboardX is asked for and not installed.
    """

    def __init__(
        self, folder: Path, iteration: int, *, tensorboard: bool = False, trackers: Trackers | None = None
    ) -> None:
        self._folder = folder
        self._trackers = trackers or Trackers()
        kept = [record for record in read_curves(folder) if record["iteration"] <= iteration]
        try:
            write_atomically(folder / _FILE, "".join(json.dumps(record) + "\n" for record in kept).encode())
            shutil.rmtree(folder / _TENSORBOARD, ignore_errors=True)
        except OSError as error:
            raise self._cannot_be_written(error) from error
        self._board = _summary_writer(folder / _TENSORBOARD) if tensorboard else None
        for record in kept:
            self._show(record)

    def add(self, record: dict[str, Any]) -> None:
        """One more record; raises `TrainingError` where it cannot be written."""
        try:
            with (self._folder / _FILE).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
            self._show(record)
        except OSError as error:
            raise self._cannot_be_written(error) from error

    def close(self) -> None:
        """Let TensorBoard and the trackers have the last records."""
        self._trackers.close()
        if self._board is not None:
            self._board.close()

    def _show(self, record: dict[str, Any]) -> None:
        self._trackers.add(record)
        if self._board is None:
            return
        for name, value in numbers(record):
            self._board.add_scalar(name, value, record["iteration"])
        self._board.flush()

    def _cannot_be_written(self, error: OSError) -> TrainingError:
        return TrainingError(
            f"the curves of {self._folder} could not be written ({error.strerror}): {what_is_kept(self._folder)}; "
            "free disk space and start the same command again"
        )


def read_curves(folder: Path) -> list[dict[str, Any]]:
    """The records of a run in their order; a line that a kill cut short is no record."""
    file = folder / _FILE
    records = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("iteration"), int):
            records.append(record)
    return records


def _summary_writer(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            "run.tensorboard = true needs the package tensorboardX: run pip install tensorboardX, or take the key out"
        ) from error
    return SummaryWriter(str(folder), write_to_disk=True)
