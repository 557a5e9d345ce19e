"""What every annotation format is read into, and the one interface of its readers.

The folder of a collection's images, searched by the names that annotations use for them.

Shapes of annotation programs as boxes with outlines.

Which of a region's attributes is its label, for programs that have attributes only.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked, check_upright, sop_instance_uid, stored_size
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, PassedOverError, Polygon, Silence
from mammoscope.findings import Box

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the names of files that were uploaded
_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm", ".bmp", ".dcm", ".dicom", ".dic", ".ima"}


class ImageFolder:
    r"""Finds images by full name, by the end of a path, or by the bare name where only one file has it.

    Annotations were often made on another machine: their names hold its folders (``C:\scans\a.png``), or none, or an
    address (``/data/local-files/?d=scans/a.png``), or what an upload put before the name (``90fbb0c7-a.png``).

    Raises
    ------
    DatasetError
        If the folder is not there, is an archive, or holds no file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        check_unpacked(self.folder)
        if not self.folder.is_dir():
            raise DatasetError(f"the folder of images {self.folder} does not exist.")
        self.files = tuple(
            sorted(path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        )
        if not self.files:
            raise DatasetError(f"the folder of images {self.folder} is empty.")
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._by_uid: dict[str, Path] | None = None
        for path in self.files:
            self._by_name[path.name].append(path)
            if path.suffix.lower() in {*_PICTURES, ""}:
                self._by_stem[path.stem].append(path)

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The files that are images by their names; those without an ending, as DICOM files often are, by content."""
        return tuple(
            path
            for path in self.files
            if path.suffix.lower() in _PICTURES or (not path.suffix and stored_size(path) is not None)
        )

    def find(self, names: Iterable[str], where: str) -> Path:
        """The image of one of these names, the first that is there; a name without an ending finds any picture's.

        Raises
        ------
        DatasetError
            If there is none, or several.
        """
        tried = list(names)
        for name in dict.fromkeys(variant for given in tried for variant in _variants(given)):
            candidates = self._candidates(_parts(name))
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                raise DatasetError(
                    f"{where}: {len(candidates)} images in {self.folder} are called {name}: give their folders, too."
                )
        raise DatasetError(f"{where}: the image {tried[0]} is not in {self.folder}; is the download complete?")

    def find_instance(self, uid: str, where: str) -> Path:
        """The DICOM image of a SOP Instance UID, by its file's name or, where none is called so, by its header.

        Raises
        ------
        DatasetError
            If it is not there.
        """
        if same := self._candidates((uid,)):
            return same[0]
        if self._by_uid is None:
            self._by_uid = {}
            for path in self.pictures:
                if found := sop_instance_uid(path):
                    self._by_uid.setdefault(found, path)
        if uid not in self._by_uid:
            raise DatasetError(f"{where}: no image in {self.folder} has the SOP Instance UID {uid}.")
        return self._by_uid[uid]

    def size(self, path: Path, where: str) -> tuple[int, int]:
        """(rows, columns) from a file's header.

        Raises
        ------
        DatasetError
            If it is no picture or DICOM file, or is stored turned (see `check_upright`).
        """
        check_upright(path, where)
        size = stored_size(path)
        if size is None:
            raise DatasetError(f"{where}: {path} is neither a picture nor a DICOM file, or is damaged.")
        return size

    def name_of(self, path: Path) -> str:
        """The name within the folder, with ``/`` between folders."""
        return path.relative_to(self.folder).as_posix()

    def _candidates(self, parts: tuple[str, ...]) -> list[Path]:
        if not parts:
            return []
        same = self._by_name.get(parts[-1]) or self._by_stem.get(parts[-1]) or []
        if len(same) < 2:
            return same
        *folders, last = parts
        for skipped in range(len(folders) + 1):  # as many of its folders as fit
            end = (*folders[skipped:], last)
            fits = [path for path in same if _ends_with(path.relative_to(self.folder), end)]
            if len(fits) == 1:
                return fits
        return same


def _variants(name: str) -> Iterator[str]:
    """The name itself, then what the file may be called beside an address, a query or an upload."""
    yield name
    address = urlsplit(name.replace("\\", "/"))
    path = unquote(parse_qs(address.query).get("d", [address.path])[0])
    folder, _, last = path.rpartition("/")
    shorter = _UPLOAD.sub("", last)
    yield from (path, f"{folder}/{shorter}" if folder else shorter)


def _parts(name: str) -> tuple[str, ...]:
    path: PurePath = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    return tuple(part for part in path.parts if part not in {path.anchor, ".", ".."})


def _ends_with(path: PurePath, end: tuple[str, ...]) -> bool:
    parts = path.parts
    return (len(end) <= len(parts) and (*parts[len(parts) - len(end) : -1], path.stem) == (*end[:-1], end[-1])) or (
        parts[len(parts) - len(end) :] == end
    )


_SUBSETS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip


def subset_of(parts: Sequence[str], *, in_name: bool = False) -> str | None:
    """``train``, ``val`` or ``test`` where a folder is called so, in the words that programs have for them.

    Parameters
    ----------
    parts
        Folders and, last, the file's name without its ending.
    in_name
        Whether that name may say it as well, as ``instances_val2017`` does.
    """
    *folders, name = parts
    for folder in reversed(folders):
        if folder.casefold() in _SUBSETS:
            return _SUBSETS[folder.casefold()]
    words = re.split(r"[^a-z]+", name.casefold()) if in_name else ()
    return next((_SUBSETS[word] for word in words if word in _SUBSETS), None)


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """One image as an annotation file speaks of it.

    Parameters
    ----------
    path
        Its file, found in the folder of images.
    where
        The place in the annotations that an error names: ``"boxes.csv, line 3"``.
    marks
        Every mark on it, in pixels of the file, and what it means that there is none.
    rows, columns
        The image's size as the annotations say it; ``None`` where they are silent.
    facts
        What they say of the image by the names of the index: ``patient``, ``study``, ``laterality``, ``view``,
        ``density``, ``pathology``, ``scanner``, ``spacing_mm``, ``split``.
    attributes
        What else they say of it.
    subset
        ``train``, ``val`` or ``test`` where the annotations list it there; ``None`` to go by its folders.
    """

    path: Path
    where: str
    marks: ImageMarks
    rows: int | None = None
    columns: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    subset: str | None = None

    @property
    def boxes(self) -> tuple[ImportedBox, ...]:
        """The marks that were taken."""
        return self.marks.boxes


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a format leaves open.

    Parameters
    ----------
    classes
        Names of classes that the annotations only number, from 0.
    label_key
        Which attribute of a region is its label.
    label
        The label of boxes for which the annotations give none.
    counts_from
        Whether Pascal VOC's pixels count from 1, as it defines, or from 0, as some programs write it.
    silence
        What it means that the annotations name an image and mark nothing on it; ``None`` for what the format says.
    crowds_are_lesions
        Take crowd regions for lesions: CVAT writes every mask and ellipse as one.
    notes
        What a reader left aside, a sentence each, for the person who imports; the reader adds to it.
    """

    classes: tuple[str, ...] = ()
    label_key: str | None = None
    label: str | None = None
    counts_from: int = 1
    silence: Silence | None = None
    crowds_are_lesions: bool = False
    notes: list[str] = field(default_factory=list, compare=False)

    def silence_or(self, of_format: Silence) -> Silence:
        """What no mark means: as asked for, else as the format has it."""
        return of_format if self.silence is None else self.silence


class AnnotationReader(Protocol):
    """Reads one annotation format."""

    def __call__(self, source: Path, images: ImageFolder, options: ReadOptions) -> Iterable[LabelledFile]:
        """The images that the annotations at ``source`` speak of.

        Raises
        ------
        DatasetError
            If they cannot be read: which file and line, what is wrong.
        """
        ...


_ELLIPSE_CORNERS = 64


def rectangle(edges: Sequence[float], label: str, **more: Any) -> ImportedBox:
    """A box from two opposite corners (x0, y0, x1, y1) in any order; `PassedOverError` when it has no area."""
    x0, y0, x1, y1 = edges
    try:
        return ImportedBox(Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), label, **more)
    except ValueError:
        raise PassedOverError("a box without area") from None


def outlined(corners: Sequence[tuple[float, float]], label: str, **more: Any) -> ImportedBox:
    """A polygon and the box around it; `PassedOverError` when it has fewer than three corners or no area."""
    polygon: Polygon = tuple((float(x), float(y)) for x, y in corners)
    try:
        return ImportedBox.around(polygon, label, **more)
    except ValueError:
        raise PassedOverError("an outline without area") from None


def turned_rectangle(
    corner: tuple[float, float],
    size: tuple[float, float],
    degrees: float,
    about: tuple[float, float],
    label: str,
    **more: Any,
) -> ImportedBox:
    """A rectangle from its top left corner and size, turned clockwise about a point; its box is the one around it."""
    (x, y), (width, height) = corner, size
    if degrees % 360 == 0:
        return rectangle((x, y, x + width, y + height), label, **more)
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return outlined([_turned(point, about, degrees) for point in corners], label, **more)


def ellipse(
    center: tuple[float, float], radii: tuple[float, float], degrees: float, label: str, **more: Any
) -> ImportedBox:
    """An ellipse turned clockwise about its centre: the exact box around it, and a polygon of 64 corners within."""
    (cx, cy), (rx, ry) = center, radii
    if not (rx > 0 and ry > 0):
        raise PassedOverError("an ellipse without area")
    angle = math.radians(degrees)
    half_width = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    half_height = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    steps = [2 * math.pi * n / _ELLIPSE_CORNERS for n in range(_ELLIPSE_CORNERS)]
    points = [(cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in steps]
    polygon = tuple(_turned(point, center, degrees) for point in points)
    box = Box(cx - half_width, cy - half_height, cx + half_width, cy + half_height)
    return ImportedBox(box, label, polygons=(polygon,), **more)


def _turned(point: tuple[float, float], about: tuple[float, float], degrees: float) -> tuple[float, float]:
    """Clockwise as seen, since y points down."""
    angle = math.radians(degrees)
    dx, dy = point[0] - about[0], point[1] - about[1]
    return (
        about[0] + dx * math.cos(angle) - dy * math.sin(angle),
        about[1] + dx * math.sin(angle) + dy * math.cos(angle),
    )


_NORMAL = ("normal", "negative", "no finding", "no findings", "no lesion", "no mass")
_YES = ("yes", "true", "1")


def says_normal(attributes: Mapping[str, Any]) -> bool:
    """Whether it is said of a whole image that nothing is on it: ``{"assessment": "normal"}``, ``{"normal": "yes"}``.

    Of an attribute with several values, separated by commas, each counts.
    """
    return any(
        word.strip().casefold() in _NORMAL
        for name, value in attributes.items()
        for word in (*str(value).split(","), *([name] if str(value).strip().casefold() in _YES else []))
    )


_LABEL_KEYS = ("label", "class", "name", "category", "type", "lesion")
"""Attributes that are taken for the label where none is named and a region has several."""


def label_of(where: str, attributes: Mapping[str, Any], options: ReadOptions) -> str:
    """The label of a region: the attribute asked for, else the only one, else one that is called so.

    Raises
    ------
    DatasetError
        If none of these is there.
    """
    if options.label_key:
        label = attributes.get(options.label_key) or options.label
        if not label:
            raise DatasetError(f"{where}: it has no attribute {options.label_key!r}; it has {sorted(attributes)}.")
        return str(label)
    if options.label:
        return options.label
    by_name = {key.lower(): value for key, value in attributes.items()}
    named = next((by_name[key] for key in _LABEL_KEYS if key in by_name), None)
    if named is None and len(attributes) == 1:
        named = next(iter(attributes.values()))
    if named is None:
        raise DatasetError(
            f"{where}: which of its attributes {sorted(attributes)} is the label? Say so with --label-key, or name the "
            "one label of all boxes with --label."
        )
    return str(named)
