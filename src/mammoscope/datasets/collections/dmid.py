"""DMID: TIFF pictures, masks of the lesions, a sheet or text of centres and radii in the manner of MIAS.

The same image lies in several folders: as the mammogram, as a mask of its lesions and with drawn contours; which is
which is told by the pixels. Whether the centres are counted from the top or, as MIAS does, from the bottom is told by
the masks.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import cv2
import numpy as np

from mammoscope.datasets.collections.base import (
    ASYMMETRY,
    CALCIFICATION,
    DISTORTION,
    MASS,
    Collected,
    pathology_of,
    spread,
)
from mammoscope.datasets.collections.mini_mias import LABELS, MARGINS, NORMAL, OUTSIDE
from mammoscope.datasets.collections.scan import Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source
from mammoscope.datasets.collections.tables import Row, read_rows
from mammoscope.datasets.errors import DatasetError, PatientUnknownError
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, LeftMark, Silence
from mammoscope.datasets.masks import binary, parts_of
from mammoscope.datasets.records import ImportedImage
from mammoscope.findings import Box

_IMAGE = re.compile(r"IMG\d{3,}", re.IGNORECASE)
_SHOWN = re.compile(r"(CC|MLO)(LT|RT|L|R)", re.IGNORECASE)


class _Kind(Enum):
    MAMMOGRAM = auto()
    MASK = auto()
    DRAWING = auto()


@dataclass(frozen=True, slots=True)
class _Look:
    """What a picture is, its size, and the boxes of the parts of a mask."""

    kind: _Kind
    rows: int = 0
    columns: int = 0
    parts: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    row: Row
    image: str
    shown: str
    classes: tuple[str, ...]
    severity: str
    circle: tuple[float, float, float] | None


def _recognise(inventory: Inventory) -> bool:
    return _sheet(inventory) is not None


def _sheet(inventory: Inventory) -> Path | None:
    """The sheet or text with the centres, by its rows."""
    for path in inventory.files:
        if path.suffix.lower() in (".xlsx", ".xls", ".txt", ".csv") and path.stat().st_size < 1 << 22:
            try:
                rows = list(read_rows(path))
            except DatasetError:
                continue
            if sum(bool(cells) and bool(_IMAGE.fullmatch(cells[0])) for _, cells in rows) > 1:
                return path
    return None


def _read(source: Source) -> Collected:
    path = _sheet(source.inventory)
    if path is None:
        raise DatasetError(
            f"{source.inventory.folder} holds neither Metadata.xlsx nor Info.txt of DMID: put one there as its owner "
            "distributes it."
        )
    by_image: dict[str, list[_Entry]] = {}
    for line, cells in read_rows(path):
        if cells and _IMAGE.fullmatch(cells[0]):
            entry = _entry(Row(path, line, {}), cells)
            by_image.setdefault(entry.image, []).append(entry)
    pictures = [p for p in source.inventory.pictures if p.stem.strip().upper() in by_image]
    looks = spread(_look, pictures, "looking at pictures", source.progress, workers=source.workers, serial_up_to=8)
    mammograms = {p.stem.strip().upper(): (p, look) for p, look in zip(pictures, looks, strict=True)
                  if look.kind is _Kind.MAMMOGRAM}  # fmt: skip
    masks = {p.stem.strip().upper(): look for p, look in zip(pictures, looks, strict=True) if look.kind is _Kind.MASK}
    patients = _patients(source, by_image)
    from_below = _counted_from_below(path, by_image, masks)
    missing = Missing(source, named=len(by_image))
    images = []
    for name, entries in by_image.items():
        if name not in mammograms:
            missing.add(entries[0].row, f"the picture {name}.tif")
        else:
            images.append(_image(*mammograms[name], masks.get(name), entries, patients[name], from_below=from_below))
    return Collected(tuple(images), missing.settle())


def _entry(row: Row, cells: list[str]) -> _Entry:
    """A row by what its cells look like: sheet and text differ in columns, and the sheet's have no fixed names."""
    words = [word for cell in cells[1:] for word in re.split(r"[\s,+/&]+", cell) if word]
    classes = tuple(word.upper() for word in words if word.upper() in {*LABELS, NORMAL})
    severity = next((word.upper() for word in words if word.upper() in ("B", "M")), "")
    shown = next((word for word in words if _SHOWN.fullmatch(word)), "")
    place = cells[-3:]
    if classes and set(classes) != {NORMAL} and all(re.search(r"\d", cell) for cell in place):
        numbers = Row(row.path, row.line, dict(zip(("x", "y", "radius"), place, strict=True)))
        if (radius := numbers.number("radius")) <= 0:
            raise row.error(f"the radius {radius:g} is not positive")
        return _Entry(
            row, cells[0].upper(), shown, classes, severity, (numbers.number("x"), numbers.number("y"), radius)
        )
    if not classes:
        raise row.error(f"it names none of the classes {', '.join(LABELS)}, {NORMAL}")
    return _Entry(row, cells[0].upper(), shown, classes, severity, None)


def _look(path: Path) -> _Look:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DatasetError(f"{path} is no picture or is damaged: copy it again from its source.")
    rows, columns = pixels.shape[:2]
    if pixels.ndim == 3:
        colours = pixels[..., :3]
        if not (np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2])):
            return _Look(_Kind.DRAWING)
        pixels = colours[..., 0]
    mask = binary(pixels)
    return (
        _Look(_Kind.MAMMOGRAM, rows, columns) if mask is None else _Look(_Kind.MASK, rows, columns, (*parts_of(mask),))
    )


def _patients(source: Source, names: Iterable[str]) -> dict[str, str]:
    """Patients from the DICOM copies of the images, if these say them; else each its own, if that was asked for."""
    said = {header.path.stem.strip().upper(): header.patient for header in source.headers if header.patient}
    # one name for all is what a tool for anonymising leaves
    if all(name in said for name in names) and len(set(said.values())) > 1:
        return {name: said[name] for name in names}
    if source.each_image_a_patient:
        return {name: name for name in names}
    raise PatientUnknownError(
        f"nothing in {source.inventory.folder} says which images are of one patient, and two views of one breast in "
        "two splits would make every figure too good: put DMID's DICOM images beside the pictures, or accept that with "
        "--each-image-a-patient."
    )


def _counted_from_below(path: Path, by_image: dict[str, list[_Entry]], masks: dict[str, _Look]) -> bool:
    """Whether the centres' rows count from the bottom: so more of them lie in masks.

    Raises
    ------
    DatasetError
        If the masks do not tell.
    """
    inside = {False: 0, True: 0}
    for name, look in masks.items():
        for entry in by_image.get(name, ()):
            if entry.circle is None:
                continue
            x, y, _ = entry.circle
            for below in inside:
                down = look.rows - y if below else y
                inside[below] += any(part.x0 <= x <= part.x1 and part.y0 <= down <= part.y1 for part in look.parts)
    if inside[True] == inside[False]:
        if not any(entry.circle for entries in by_image.values() for entry in entries):
            return True
        raise DatasetError(
            f"{path}: the masks of the lesions, which tell whether its rows count from the top or from the bottom, are "
            "not there or do not tell: put DMID's ROI masks beside the pictures."
        )
    return inside[True] > inside[False]


def _image(
    path: Path, look: _Look, mask: _Look | None, entries: list[_Entry], patient: str, *, from_below: bool
) -> ImportedImage:
    shown = next((match for entry in entries if (match := _SHOWN.fullmatch(entry.shown))), None)
    severities = {entry.severity for entry in entries} - {""}
    fits = mask is not None and (mask.rows, mask.columns) == (look.rows, look.columns)
    parts = mask.parts if mask is not None and fits else ()
    placed = {
        id(entry): box for entry in entries if (box := _box(entry, look, parts, from_below=from_below)) is not None
    }
    return ImportedImage(
        path=path,
        rows=look.rows,
        columns=look.columns,
        patient=patient,
        laterality=laterality_of(shown[2][0]) if shown else None,
        view=view_of(shown[1]) if shown else None,
        pathology=pathology_of(max(severities)) if severities else "normal",
        marks=ImageMarks(
            tuple(placed.values()),
            Silence.NEGATIVE,  # its row says NORM
            not_outlined=tuple(
                LeftMark(
                    "a lesion without a place" if entry.circle is None else OUTSIDE,
                    f"{entry.row.path.name}:{entry.row.line}",
                )
                for entry in entries
                if set(entry.classes) - {NORMAL} and id(entry) not in placed
            ),
        ),
        origin={"rows": [f"{entry.row.path.name}:{entry.row.line}" for entry in entries]},
    )


def _box(entry: _Entry, look: _Look, parts: tuple[Box, ...], *, from_below: bool) -> ImportedBox | None:
    """The box of the mask's part in which the centre lies, else that of the circle; none without a place in it."""
    if entry.circle is None:
        return None
    x, y, radius = entry.circle
    y = look.rows - y if from_below else y
    box = next((part for part in parts if part.x0 <= x <= part.x1 and part.y0 <= y <= part.y1), None)
    if box is None:
        box = Box(x - radius, y - radius, x + radius, y + radius)
    if box.clipped(look.rows, look.columns) is None:
        return None
    kind = next(name for name in entry.classes if name != NORMAL)
    said = {"class": "+".join(entry.classes), "pathology": pathology_of(entry.severity), "margins": MARGINS.get(kind)}
    return ImportedBox(box, LABELS[kind], {name: value for name, value in said.items() if value})


DMID = Collection(
    key="dmid",
    title="DMID",
    licence="CC BY 4.0",
    citation=(
        "P. Oza et al.: Digital mammography dataset for breast cancer diagnosis research (DMID) with breast mass "
        "segmentation analysis. Biomedical Engineering Letters 14:317-330, 2024, doi 10.1007/s13534-023-00339-y; data: "
        "doi 10.6084/m9.figshare.24522883."
    ),
    url="https://doi.org/10.6084/m9.figshare.24522883",
    labels=(MASS, CALCIFICATION, ASYMMETRY, DISTORTION),
    recognise=_recognise,
    read=_read,
)
