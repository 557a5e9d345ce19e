"""What every annotation format is read into, and the one interface of its readers.

The folder of a collection's images, searched by the names that annotations use for them.

Shapes of annotation programs as boxes with outlines.

Which of a region's attributes is its label, for programs that have attributes only.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked, stored_size
from mammoscope.datasets.records import ImportedBox, Polygon
from mammoscope.datasets.review_log import ReviewState
from mammoscope.findings import Box

_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm", ".bmp", ".dcm", ".dicom", ".dic", ".ima"}


class ImageFolder:
    r"""Finds images by full name, by the end of a path, or by the bare name where only one file has it.

    Annotations were often made on another machine: their names hold its folders (``C:\scans\a.png``), or none.

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
        for name in tried:
            candidates = self._candidates(_parts(name))
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                raise DatasetError(
                    f"{where}: {len(candidates)} images in {self.folder} are called {name}: give their folders, too."
                )
        raise DatasetError(f"{where}: the image {tried[0]} is not in {self.folder}; is the download complete?")

    def size(self, path: Path, where: str) -> tuple[int, int]:
        """(rows, columns) from a file's header.

        Raises
        ------
        DatasetError
            If it is no picture or DICOM file.
        """
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


def _parts(name: str) -> tuple[str, ...]:
    path: PurePath = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    return tuple(part for part in path.parts if part not in {path.anchor, ".", ".."})


def _ends_with(path: PurePath, end: tuple[str, ...]) -> bool:
    parts = path.parts
    return (len(end) <= len(parts) and (*parts[len(parts) - len(end) : -1], path.stem) == (*end[:-1], end[-1])) or (
        parts[len(parts) - len(end) :] == end
    )


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """One image as an annotation file speaks of it.

    Parameters
    ----------
    path
        Its file, found in the folder of images.
    where
        The place in the annotations that an error names: ``"boxes.csv, line 3"``.
    boxes
        In pixels of the file.
    rows, columns
        The image's size as the annotations say it; ``None`` where they are silent.
    facts
        What they say of the image by the names of the index: ``patient``, ``study``, ``laterality``, ``view``,
        ``density``, ``pathology``, ``scanner``, ``spacing_mm``, ``split``.
    attributes
        What else they say of it.
    review
        How far its annotation is; ``None`` for annotated.
    """

    path: Path
    where: str
    boxes: tuple[ImportedBox, ...] = ()
    rows: int | None = None
    columns: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    review: ReviewState | None = None


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
    """

    classes: tuple[str, ...] = ()
    label_key: str | None = None
    label: str | None = None
    counts_from: int = 1


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


def rectangle(where: str, edges: Sequence[float], label: str, **more: Any) -> ImportedBox:
    """A box from two opposite corners (x0, y0, x1, y1) in any order; `DatasetError` when it has no area."""
    x0, y0, x1, y1 = edges
    try:
        return ImportedBox(Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), label, **more)
    except ValueError:
        raise DatasetError(f"{where}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} has no area: mend or remove it.") from None


def outlined(where: str, corners: Sequence[tuple[float, float]], label: str, **more: Any) -> ImportedBox:
    """A polygon and the box around it; `DatasetError` when it has fewer than three corners or no area."""
    polygon: Polygon = tuple((float(x), float(y)) for x, y in corners)
    try:
        return ImportedBox.around(polygon, label, **more)
    except ValueError:
        raise DatasetError(f"{where}: a polygon of {len(polygon)} corners without area: mend or remove it.") from None


def turned_rectangle(
    where: str,
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
        return rectangle(where, (x, y, x + width, y + height), label, **more)
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return outlined(where, [_turned(point, about, degrees) for point in corners], label, **more)


def ellipse(
    where: str, center: tuple[float, float], radii: tuple[float, float], degrees: float, label: str, **more: Any
) -> ImportedBox:
    """An ellipse turned clockwise about its centre: the exact box around it, and a polygon of 64 corners within."""
    (cx, cy), (rx, ry) = center, radii
    if not (rx > 0 and ry > 0):
        raise DatasetError(f"{where}: an ellipse with the radii {rx:g} and {ry:g} has no area: mend or remove it.")
    angle = math.radians(degrees)
    half_width = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    half_height = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    steps = [2 * math.pi * n / _ELLIPSE_CORNERS for n in range(_ELLIPSE_CORNERS)]
    points = [(cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in steps]
    polygon = tuple(_turned(point, center, degrees) for point in points)
    box = Box(cx - half_width, cy - half_height, cx + half_width, cy + half_height)
    return ImportedBox(box, label, polygons=(polygon,), **more)


def no_area(where: str, kind: str) -> DatasetError:
    """The error for a point or a line."""
    return DatasetError(f"{where}: a {kind} has no area, so it cannot be a lesion's box: draw a box or remove it.")


def _turned(point: tuple[float, float], about: tuple[float, float], degrees: float) -> tuple[float, float]:
    """Clockwise as seen, since y points down."""
    angle = math.radians(degrees)
    dx, dy = point[0] - about[0], point[1] - about[1]
    return (
        about[0] + dx * math.cos(angle) - dy * math.sin(angle),
        about[1] + dx * math.sin(angle) + dy * math.cos(angle),
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
