"""All files below a collection's folder, looked at once; what they are is told by content.

What the DICOM headers of a collection say, thousands of files at a time and no pixel decoded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Self

from pydicom.uid import UID

from mammoscope.datasets.collections.base import Progress, spread
from mammoscope.datasets.collections.tables import Table, header_of, is_spreadsheet, key, read_table
from mammoscope.datasets.errors import DatasetError
from mammoscope.imaging import Laterality, MammogramError, View, attributes
from mammoscope.imaging.dicom import read_header
from mammoscope.imaging.files import SNIFFED_BYTES, FileKind, files_below, sniff

_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"BZh", b"\xfd7zXZ\0")
_TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".txt", ".xls", ".xlsx"))
_DICOM_SUFFIXES = frozenset((".dcm", ".dicom", ".dic", ".ima"))
PICTURE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm"))
"""Of files that are pictures."""
_LARGEST_TABLE = 2 << 30


@dataclass(frozen=True)
class Inventory:
    """The files below a folder, sorted."""

    folder: Path
    files: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Look through a folder.

        Raises
        ------
        DatasetError
            If it does not exist, is an archive or another file, or holds nothing but archives.
        """
        folder = Path(folder)
        if folder.is_file():
            what = "an archive: unpack it and name" if _start(folder).startswith(_ARCHIVES) else "a file: name"
            raise DatasetError(f"{folder} is {what} the folder of the collection.")
        if not folder.is_dir():
            raise DatasetError(f"{folder} does not exist: check the path.")
        try:
            files = tuple(sorted(files_below(folder)))
        except MammogramError as error:
            raise DatasetError(str(error)) from None
        if not files:
            raise DatasetError(f"{folder} holds no files: name the folder of the collection.")
        if all(path.suffix.lower() in (".zip", ".gz", ".7z", ".rar", ".bz2", ".xz", ".tar") for path in files):
            raise DatasetError(f"{folder} holds archives only, such as {files[0].name}: unpack them first.")
        return cls(folder, files)

    @cached_property
    def dicom(self) -> tuple[Path, ...]:
        """The files that are DICOM by their suffix or their first bytes."""
        return tuple(
            path
            for path in self.files
            if path.suffix.lower() in _DICOM_SUFFIXES or (not _known(path) and sniff(_start(path)) is FileKind.DICOM)
        )

    @cached_property
    def pictures(self) -> tuple[Path, ...]:
        """PNG, JPEG, TIFF and PGM files, by suffix."""
        return tuple(path for path in self.files if path.suffix.lower() in PICTURE_SUFFIXES)

    @cached_property
    def headers(self) -> dict[Path, frozenset[str]]:
        """The column names of each file that may be a table, as compared."""
        found = {}
        for path in self.files:
            if path.suffix.lower() in _TABLE_SUFFIXES and path.stat().st_size < _LARGEST_TABLE:
                found[path] = frozenset(map(key, _header(path)))
        return found

    def tables(self, columns: Sequence[str], title: str, optional: Sequence[str] = ()) -> list[Table]:
        """Each table that has at least half of those columns, and all of them when read; other columns are not kept.

        Raises
        ------
        DatasetError
            If one of these lacks some of the columns, or cannot be read.
        """
        wanted = set(map(key, columns))
        paths = [path for path, names in self.headers.items() if 2 * len(wanted & names) >= len(wanted)]
        return [read_table(path, (*columns, *optional)).require(columns, title) for path in paths]

    def table(self, columns: Sequence[str], title: str, optional: Sequence[str] = ()) -> Table:
        """The table with those columns; of others, only the optional ones are kept.

        Raises
        ------
        DatasetError
            If there is none, or it lacks some of the columns.
        """
        wanted = set(map(key, columns))
        best = max(self.headers, key=lambda path: len(wanted & self.headers[path]), default=None)
        if best is None or 2 * len(wanted & self.headers[best]) < len(wanted):
            for path in self.headers:  # a wrong encoding hides a table: reading it says so
                if path.suffix.lower() != ".txt":
                    read_table(path, ())
            raise DatasetError(
                f"{self.folder} holds no {title} (a table with the columns {', '.join(columns)}): "
                "put it there as its owner distributes it."
            )
        return read_table(best, (*columns, *optional)).require(columns, title)

    def recognises(self, columns: Sequence[str]) -> bool:
        """Whether a table here has at least half of those columns."""
        wanted = set(map(key, columns))
        return any(2 * len(wanted & names) >= len(wanted) for names in self.headers.values())

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        by_name: dict[str, list[Path]] = {}
        for path in self.files:
            by_name.setdefault(path.name.casefold(), []).append(path)
        return by_name

    def resolve(self, reference: str) -> Path | None:
        """The file that a table means: of those with that name, the one whose folders agree furthest.

        The table's folders are those of its owner's machine, so only their end is compared; separators may be
        those of Windows.
        """
        wanted = [part.strip().casefold() for part in PurePosixPath(reference.replace("\\", "/")).parts]
        if not wanted:
            return None
        return max(
            self._by_name.get(wanted[-1], ()),
            key=lambda path: _agreement(wanted, [part.casefold() for part in path.parts]),
            default=None,
        )

    def by_stem(self, paths: Iterable[Path]) -> dict[str, Path]:
        """Files by name without suffix, blanks and case; the first of several."""
        found: dict[str, Path] = {}
        for path in paths:
            found.setdefault(path.stem.strip().casefold(), path)
        return found


def _agreement(wanted: list[str], there: list[str]) -> int:
    count = 0
    for a, b in zip(reversed(wanted), reversed(there), strict=False):
        if a != b:
            break
        count += 1
    return count


def _header(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() in (".xls", ".xlsx") and not is_spreadsheet(_start(path)):
        return ()
    return header_of(path)


def _known(path: Path) -> bool:
    """Whether the suffix says that it is no DICOM file, which spares opening it."""
    return path.suffix.lower() in _TABLE_SUFFIXES | PICTURE_SUFFIXES | {".xml", ".ics", ".overlay", ".ljpeg", ".json"}


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SNIFFED_BYTES)
    except OSError:
        return b""


_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SeriesDescription",
    "AnatomicRegionSequence",
    "PatientID",
    "ViewPosition",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientOrientation",
    "Laterality",
    "ImageLaterality",
    "Rows",
    "Columns",
    "BitsAllocated",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
    "ViewCodeSequence",
)
_SERIAL = 512


@dataclass(frozen=True, slots=True)
class Header:
    """One DICOM file's header; text is empty and numbers are 0 where the file is silent, as one that is no image is.

    ``problem`` is a sentence where the file cannot be used, and all else is empty then.
    """

    path: Path
    sop_class: str = ""
    sop_instance: str = ""
    study: str = ""
    series: str = ""
    patient: str = ""
    description: str = ""
    modality: str = ""
    rows: int = 0
    columns: int = 0
    bits_allocated: int = 0
    laterality: Laterality | None = None
    view: View | None = None
    scanner: str | None = None
    spacing_mm: tuple[float, float] | None = None
    problem: str | None = None


def read_headers(paths: Sequence[Path], progress: Progress | None = None, workers: int | None = None) -> list[Header]:
    """Read headers, in the order of the paths.

    Parameters
    ----------
    workers
        Processes; by default as many as there are processors, and none of its own for a few hundred files.

    Notes
    -----
    A file that cannot be read has a `Header.problem`: whether that stops the import is for the importer to say.
    """
    return spread(header_of_file, paths, "reading headers", progress, workers=workers, serial_up_to=_SERIAL)


def header_of_file(path: Path) -> Header:
    """One file's header."""
    try:
        header = read_header(path, path.name, _KEYWORDS)
    except (MammogramError, OSError) as error:
        return Header(path, problem=str(error))
    size = attributes.number(header, "Rows"), attributes.number(header, "Columns")
    sop_class = attributes.text(header, "SOPClassUID") or ""
    if not all(size) and ("Image Storage" in UID(sop_class).name or not sop_class):
        return Header(path, problem=f"{path.name} is no DICOM object or is cut short: copy it again from its source.")
    spacing = attributes.spacing(header)
    maker = [attributes.text(header, name) for name in ("Manufacturer", "ManufacturerModelName")]
    return Header(
        path=path,
        sop_class=sop_class,
        sop_instance=attributes.text(header, "SOPInstanceUID") or "",
        study=attributes.text(header, "StudyInstanceUID") or "",
        series=attributes.text(header, "SeriesInstanceUID") or "",
        patient=attributes.text(header, "PatientID") or "",
        description=attributes.text(header, "SeriesDescription") or "",
        modality=attributes.text(header, "Modality") or "",
        rows=int(size[0] or 0),
        columns=int(size[1] or 0),
        bits_allocated=int(attributes.number(header, "BitsAllocated") or 0),
        laterality=attributes.laterality(header),
        view=attributes.view(header),
        scanner=" ".join(filter(None, maker)) or None,
        spacing_mm=(spacing.row_mm, spacing.column_mm) if spacing else None,
    )
