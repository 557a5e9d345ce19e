"""`Outbox`: the result objects of each report, on disk until they are in every destination, and a while longer."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileDataset

from mammoscope.node.storage.durable_files import make_folder, move_folder, sync


@dataclass(frozen=True, slots=True)
class StoredReport:
    """The result objects of one report of one study, in the order in which they are sent."""

    study: str
    number: int
    files: tuple[Path, ...]

    def file_of(self, sop_instance: str) -> Path | None:
        """The file of one object; ``None`` if it is not there."""
        return next((file for file in self.files if file.stem.partition("-")[2] == sop_instance), None)


class Outbox:
    """Result objects: ``<study>/<number of the report>/<order>-<UID>.dcm``, readable by the node's account only.

    Parameters
    ----------
    worker
        Whose; no two workers write under the same name.
    """

    def __init__(self, folder: Path, worker: str = "node") -> None:
        self._folder = folder
        self._suffix = f".{worker}.part"
        make_folder(folder)
        for partial in folder.glob(f"*/.*{self._suffix}"):
            shutil.rmtree(partial)

    def put(self, study: str, number: int, objects: Sequence[FileDataset]) -> StoredReport:
        """Write a report's objects, all or none, synced to disk when this returns."""
        partial = self._folder / study / f".{number}{self._suffix}"
        if partial.exists():  # a try that a full disk ended
            shutil.rmtree(partial)
        partial.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.mkdir(mode=0o700)
        for order, dataset in enumerate(objects, start=1):
            file = partial / f"{order:03d}-{dataset.SOPInstanceUID}.dcm"
            file.touch(mode=0o600)
            dataset.save_as(file, enforce_file_format=True)
            sync(file)
        sync(partial)
        move_folder(partial, self._at(study, number))
        sync(self._folder)
        return self.stored_report(study, number)

    def stored_report(self, study: str, number: int) -> StoredReport:
        """What lies here of a report; empty when nothing does."""
        return StoredReport(study, number, tuple(sorted(self._at(study, number).glob("*.dcm"))))

    def stored_reports(self) -> Iterator[StoredReport]:
        """Yield all that lies here."""
        for folder in sorted(self._folder.glob("*/[0-9]*")):
            yield self.stored_report(folder.parent.name, int(folder.name))

    def discard(self, study: str, number: int) -> None:
        """Delete a report's objects, if they are there."""
        shutil.rmtree(self._at(study, number), ignore_errors=True)
        try:
            (self._folder / study).rmdir()
        except OSError:  # another report lies there, or nothing at all
            return

    def _at(self, study: str, number: int) -> Path:
        return self._folder / study / str(number)
