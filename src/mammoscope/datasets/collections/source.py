"""What a collection's reader is given, and how it says what is missing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mammoscope.datasets.collections.base import Collected, Progress
from mammoscope.datasets.collections.scan import Header, Inventory, read_headers
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import stored_size


@dataclass(frozen=True)
class Source:
    """A folder to read a collection from.

    Parameters
    ----------
    only
        Which part of the collection, of `Collection.parts`.
    partial
        Whether to import what is there when files that the tables name are not.
    each_image_a_patient
        Whether an image whose patient the collection does not tell may count as of a patient of its own.
    scratch
        A folder for pictures that must be decoded anew; without one, collections that need it are refused.
    """

    inventory: Inventory
    only: str = ""
    partial: bool = False
    each_image_a_patient: bool = False
    scratch: Path | None = None
    progress: Progress | None = None
    workers: int | None = None

    @property
    def headers(self) -> list[Header]:
        """The header of each DICOM image that can be read.

        Raises
        ------
        DatasetError
            As `objects` does.
        """
        return [header for header in self.objects if header.rows]

    @cached_property
    def objects(self) -> list[Header]:
        """The header of each DICOM file that can be read, images and others.

        Raises
        ------
        DatasetError
            If one cannot be read and the import is not `partial`.
        """
        headers = read_headers(self.inventory.dicom, self.progress, self.workers)
        damaged = [header for header in headers if header.problem]
        if damaged and not self.partial:
            raise DatasetError(
                f"{damaged[0].path}: {damaged[0].problem} {len(damaged)} of {len(headers)} DICOM files cannot be read; "
                "--partial imports the others."
            )
        return [header for header in headers if not header.problem]

    def size(self, path: Path) -> tuple[int, int]:
        """(rows, columns) of a picture, from its header.

        Raises
        ------
        DatasetError
            If it is no picture or is cut within its header.
        """
        size = stored_size(path)
        if size is None:
            raise DatasetError(f"{path} is no picture or is damaged: copy it again from its source.")
        return size


@dataclass
class Missing:
    """Files that a table names and that are not there."""

    source: Source
    named: int = 0
    found: list[tuple[Row, str]] = field(default_factory=list)

    def add(self, row: Row, what: str) -> None:
        """Remember one."""
        self.found.append((row, what))

    def settle(self) -> tuple[str, ...]:
        """A note about them if the import may be partial.

        Raises
        ------
        DatasetError
            If it may not.
        """
        if not self.found:
            return ()
        row, what = self.found[0]
        lost = len({missing for _, missing in self.found})
        count = f"{lost} of {self.named} that the tables name are missing"
        if self.source.partial and lost < self.named:
            return (f"{count} and were left out; the first is {what} ({row.path.name}, line {row.line}).",)
        if lost == self.named:
            raise DatasetError(
                f"{row.path}, line {row.line}: {what} is not in {self.source.inventory.folder}, nor is any other image "
                "that the tables name: name the folder that holds the images too."
            )
        raise DatasetError(
            f"{row.path}, line {row.line}: {what} is not in {self.source.inventory.folder}; {count}: finish the "
            "download, or import what is there with --partial."
        )


@dataclass(frozen=True, slots=True)
class Collection:
    """A public collection that can be imported.

    Parameters
    ----------
    key
        What the command line calls it.
    licence, citation, url
        As its owner states them; ``None`` for a hospital's own images.
    labels
        Its classes, in the order of their ids.
    recognise
        Whether a folder holds it, by content.
    read
        Reads it from there.
    parts
        What ``only`` may say, the default first; empty where it is one piece.
    """

    key: str
    title: str
    licence: str | None
    citation: str | None
    url: str | None
    labels: tuple[str, ...]
    recognise: Callable[[Inventory], bool]
    read: Callable[[Source], Collected]
    parts: tuple[str, ...] = ()


def spacing_of(header: Header) -> float | None:
    """The pixel spacing in millimetres where it is the same down and across."""
    if header.spacing_mm is None:
        return None
    down, across = header.spacing_mm
    return down if down > 0 and abs(down - across) <= 1e-3 * down else None
