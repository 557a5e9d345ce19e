"""What a collection's reader is given, and how it says what is missing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mammoscope.datasets.collections.base import Collected, Progress
from mammoscope.datasets.collections.scan import Header, Inventory, read_headers
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_upright, stored_size


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

    @cached_property
    def shown(self) -> dict[str, "Shown"]:
        """The images by their names without suffix, blanks and case: DICOM, else a picture of that name.

        Raises
        ------
        DatasetError
            As `objects` does.
        """
        found = {name: Shown(path) for name, path in self.inventory.by_stem(self.inventory.pictures).items()}
        dicom = {header.path.stem.strip().casefold(): header for header in reversed(self.headers)}
        return found | {name: Shown(header.path, header) for name, header in dicom.items()}

    def size(self, path: Path) -> tuple[int, int]:
        """(rows, columns) of a picture, from its header.

        Raises
        ------
        DatasetError
            If it is no picture, is cut within its header, or is stored turned (see `check_upright`).
        """
        check_upright(path, "the collection")
        size = stored_size(path)
        if size is None:
            raise DatasetError(f"{path} is no picture or is damaged: copy it again from its source.")
        return size


SHAPE_TOLERANCE = 0.01
"""How far the aspect of a picture may be from that of its original and still be that original made smaller."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An image of a collection: a DICOM file with its header, or a picture that somebody made of one."""

    path: Path
    header: Header | None = None

    def size(self, source: Source) -> tuple[int, int]:
        """(rows, columns); `DatasetError` as `Source.size` raises it."""
        return (self.header.rows, self.header.columns) if self.header else source.size(self.path)


def scale_between(stated: tuple[float, float], there: tuple[int, int]) -> tuple[float, float] | None:
    """(across, down) from coordinates in an image of the stated size to one of the size that is there.

    Both are (rows, columns). ``None`` where their shapes differ: a picture that was stretched, padded or cut does not
    say which of these, so that boxes cannot be placed in it.
    """
    across, down = there[1] / stated[1], there[0] / stated[0]
    return (across, down) if abs(across / down - 1) <= SHAPE_TOLERANCE else None


@dataclass
class Missing:
    """Files that a table names and that are not there."""

    source: Source
    named: int = 0
    found: list[tuple[Row, str, object]] = field(default_factory=list)

    def add(self, row: Row, what: str, of: object = None) -> None:
        """Remember one.

        Parameters
        ----------
        of
            What is missing, by which it counts once however often it is named; ``None`` for ``what``.
        """
        self.found.append((row, what, what if of is None else of))

    def settle(self) -> tuple[str, ...]:
        """A note about them if the import may be partial.

        Raises
        ------
        DatasetError
            If it may not.
        """
        if not self.found:
            return ()
        row, what, _ = self.found[0]
        lost = len({missing for _, _, missing in self.found})
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
    names
        A regular expression that finds the names of its images wherever they went; ``None`` where they say nothing.
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
    names: str | None = None


def spacing_of(header: Header) -> float | None:
    """The pixel spacing in millimetres where it is the same down and across."""
    if header.spacing_mm is None:
        return None
    down, across = header.spacing_mm
    return down if down > 0 and abs(down - across) <= 1e-3 * down else None
