"""DDSM: an .ics file a case, an .OVERLAY file a view with lesions, pictures in lossless JPEG of 1990 (LJPEG).

http://www.eng.usf.edu/cvprg/mammography/DDSM/case_description.html describes the files.

DDSM's .OVERLAY files: abnormalities with their outlines as chain codes.

An outline begins with the column and row of its first pixel; each number after it is a step to one of eight
neighbours, 0 up and then clockwise; ``#`` ends it.

Lossless JPEG as DDSM has it: a bare codestream without a file format around it.
"""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLossless, SecondaryCaptureImageStorage, generate_uid

from mammoscope.datasets.collections.base import (
    ABNORMALITY,
    CALCIFICATION,
    MASS,
    Collected,
    density_of,
    pathology_of,
    worst_pathology,
)
from mammoscope.datasets.collections.scan import Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, Polygon, Silence
from mammoscope.datasets.records import ImportedImage
from mammoscope.findings import Box
from mammoscope.imaging import MammogramError
from mammoscope.imaging.pixel_data import Coding, PixelFormat, parse_codestream, stored_values

_STEPS = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))
_LABELS = {"MASS": MASS, "CALCIFICATION": CALCIFICATION}
_DESCRIBED = ("SHAPE", "MARGINS", "TYPE", "DISTRIBUTION")


@dataclass
class Abnormality:
    """One abnormality with its boundaries, each the pixels (column, row) on it."""

    label: str = ABNORMALITY
    attributes: dict[str, str] = field(default_factory=dict)
    boundaries: list[Polygon] = field(default_factory=list)


def read_overlay(path: Path) -> list[Abnormality]:
    """What an .OVERLAY file outlines. Cores lie within boundaries and are not lesions of their own.

    Raises
    ------
    DatasetError
        If it is cut or damaged, with the line.
    """
    found: list[Abnormality] = []
    outline_of_core = False
    stated = 0
    for line, text in enumerate(path.read_bytes().decode("ascii", "replace").splitlines(), 1):
        row, words = Row(path, line, {}), text.split()
        if not words:
            continue
        if words[0] == "TOTAL_ABNORMALITIES" and len(words) > 1 and words[1].isdigit():
            stated = int(words[1])
        elif words[0] == "ABNORMALITY":
            found.append(Abnormality())
        elif words[0] in ("BOUNDARY", "CORE"):
            outline_of_core = words[0] == "CORE"
        elif words[0].lstrip("-").isdigit():
            if not found:
                raise row.error("an outline comes before the first ABNORMALITY")
            if not outline_of_core:
                found[-1].boundaries.append(_outline(row, words))
        elif found:
            _describe(found[-1], words)
    if len(found) != stated or not all(abnormality.boundaries for abnormality in found):
        raise DatasetError(
            f"{path}: it states {stated} abnormalities and outlines {sum(bool(a.boundaries) for a in found)}: it is "
            "cut, copy it again from its source."
        )
    return found


def _describe(abnormality: Abnormality, words: list[str]) -> None:
    if words[0] == "LESION_TYPE" and len(words) > 1:
        label = _LABELS.get(words[1], ABNORMALITY)
        if abnormality.label == ABNORMALITY or label == MASS:  # of two types the mass is what the box is about
            abnormality.label = label
        for name, value in pairwise(words[2:]):
            if name in _DESCRIBED:
                abnormality.attributes[name.casefold()] = value
    elif words[0] in ("ASSESSMENT", "SUBTLETY") and len(words) > 1:
        abnormality.attributes["birads" if words[0] == "ASSESSMENT" else "subtlety"] = words[1]
    elif words[0] == "PATHOLOGY" and (pathology := pathology_of(" ".join(words[1:]))):
        abnormality.attributes["pathology"] = pathology


def _outline(row: Row, words: list[str]) -> Polygon:
    """The pixels (column, row) that a chain code steps through."""
    steps = words[2:-1]
    if len(words) < 4 or words[-1] != "#" or not words[1].isdigit() or not all(re.fullmatch("[0-7]", s) for s in steps):
        raise row.error("an outline is a column, a row, steps from 0 to 7 and #: the file is cut, copy it again")
    x, y = int(words[0]), int(words[1])
    pixels = [(x, y)]
    for code in steps:
        step = _STEPS[int(code)]
        x, y = x + step[0], y + step[1]
        pixels.append((x, y))
    return tuple((float(x), float(y)) for x, y in pixels)


_CONVERT = "convert it to PNG with the decoder that comes with DDSM and put the PNG beside it"


def decode_to_png(path: Path, target: Path, rows: int, columns: int) -> Path:
    """Decode a codestream into a 16-bit PNG of the same values.

    The decoder is the one that reads JPEG Lossless in DICOM files (gdcm). The program of 1993 that comes with DDSM is
    not part of Mammoscope.

    Parameters
    ----------
    rows, columns
        The size that the case file states.

    Raises
    ------
    DatasetError
        If it is no lossless JPEG of one component, does not decode, or has another size.
    """
    data = path.read_bytes()
    stream = parse_codestream(data)
    if stream is None or stream.coding is not Coding.JPEG_LOSSLESS or stream.components != 1:
        raise DatasetError(f"{path} is no lossless JPEG of one component: copy it again, or {_CONVERT}.")
    if (stream.rows, stream.columns) != (rows, columns):
        raise DatasetError(
            f"{path} has {stream.rows} rows and {stream.columns} columns where its case file states {rows} and "
            f"{columns}: {_CONVERT}."
        )
    dataset = _wrapped(data, rows, columns, stream.precision)
    try:
        pixels = stored_values(dataset, JPEGLossless, PixelFormat.of(dataset, path.name), path.name)
    except MammogramError as error:
        raise DatasetError(f"{path} cannot be decoded ({error}): {_CONVERT}.") from error
    if not cv2.imwrite(str(target), np.asarray(pixels, dtype=np.uint16)):
        raise DatasetError(f"{target} cannot be written: free room on that disk.")
    return target


def _wrapped(data: bytes, rows: int, columns: int, bits: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGLossless
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = encapsulate([data])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


ASPECT_TOLERANCE = 0.01
"""How far the aspect of a converted picture may be from that of the film as digitised."""

_VIEW = re.compile(
    r"(?P<side>LEFT|RIGHT)_(?P<view>CC|MLO)\s+LINES\s+(?P<rows>\d+)\s+PIXELS_PER_LINE\s+(?P<columns>\d+)"
)
_RESOLUTION = re.compile(r"\bRESOLUTION\s+([0-9.]+)")
_PICTURES = (".png", ".tif", ".tiff", ".pgm", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class _View:
    """One view of a case, as its line in the .ics file has it."""

    row: Row
    name: str
    rows: int
    columns: int
    spacing_mm: float | None
    overlay: bool


def _recognise(inventory: Inventory) -> bool:
    return any(path.suffix.lower() == ".ics" for path in inventory.files)


def _read(source: Source) -> Collected:
    cases = [path for path in source.inventory.files if path.suffix.lower() == ".ics"]
    by_name = {path.name.casefold(): path for path in source.inventory.files}
    views = [(case, view) for case in cases for view in _case(case)[1]]
    missing = Missing(source, named=len(views))
    images, scaled = [], 0
    for case in cases:
        facts, shown = _case(case)
        for view in shown:
            stem = f"{case.stem.replace('-', '_')}.{view.name}"
            overlay = by_name.get(f"{stem}.overlay".casefold())
            if view.overlay and overlay is None:
                raise view.row.error(f"{stem}.OVERLAY, which it names, is not there: finish the download")
            path = _picture(source, stem, by_name, view)
            if path is None:
                missing.add(view.row, f"{stem}.LJPEG or a picture converted from it, such as {stem}.png,")
                continue
            size = source.size(path)
            across, down = _scale(path, size, view)
            scaled += (across, down) != (1.0, 1.0)
            abnormalities = read_overlay(overlay) if overlay else []
            images.append(_image(path, size, view, facts, abnormalities, (across, down)))
    told = (f"{scaled} pictures are smaller or larger than their film was digitised: their boxes were scaled.",)
    return Collected(tuple(images), (*missing.settle(), *(told if scaled else ())))


def _case(path: Path) -> tuple[dict[str, str], list[_View]]:
    """The facts of a case and its views."""
    facts, views = {"case": path.stem}, []
    for line, text in enumerate(path.read_bytes().decode("ascii", "replace").splitlines(), 1):
        row = Row(path, line, {})
        if match := _VIEW.match(text.strip()):
            resolution = _RESOLUTION.search(text)
            views.append(
                _View(
                    row,
                    f"{match['side']}_{match['view']}",
                    int(match["rows"]),
                    int(match["columns"]),
                    float(resolution[1]) / 1000 if resolution else None,
                    overlay=text.split()[-1] == "OVERLAY",
                )
            )
        elif text.startswith(("LEFT_", "RIGHT_")):
            raise row.error("a view needs LINES and PIXELS_PER_LINE: copy the file again from its source")
        elif len(words := text.split(maxsplit=1)) == 2:
            facts[words[0].casefold()] = words[1].strip()
    if not views:
        raise DatasetError(f"{path} names no views: it is cut, copy it again from its source.")
    return facts, views


def _picture(source: Source, stem: str, by_name: dict[str, Path], view: _View) -> Path | None:
    """A converted picture if there is one, else the LJPEG decoded."""
    for suffix in _PICTURES:
        if (path := by_name.get(f"{stem}{suffix}".casefold())) is not None:
            return path
    coded = by_name.get(f"{stem}.ljpeg".casefold())
    if coded is None or source.scratch is None:
        return None
    return decode_to_png(coded, source.scratch / f"{stem}.png", view.rows, view.columns)


def _scale(path: Path, size: tuple[int, int], view: _View) -> tuple[float, float]:
    across, down = size[1] / view.columns, size[0] / view.rows
    if abs(across / down - 1) > ASPECT_TOLERANCE:
        raise view.row.error(
            f"the film has {view.rows} rows and {view.columns} columns there but {path.name} has {size[0]} and "
            f"{size[1]}, another shape, so its boxes do not fit: convert it again"
        )
    return across, down


def _image(
    path: Path,
    size: tuple[int, int],
    view: _View,
    facts: dict[str, str],
    abnormalities: list[Abnormality],
    scale: tuple[float, float],
) -> ImportedImage:
    boxes = tuple(
        _box(abnormality, outline, scale) for abnormality in abnormalities for outline in abnormality.boundaries
    )
    side, projection = view.name.split("_")
    spacing = view.spacing_mm / scale[1] if view.spacing_mm else None
    return ImportedImage(
        path=path,
        rows=size[0],
        columns=size[1],
        patient=facts["case"],
        study=facts["case"],
        laterality=laterality_of(side),
        view=view_of(projection),
        scanner=f"film {facts.get('digitizer', '')}".strip(),
        spacing_mm=spacing,
        density=density_of(facts.get("density", "")),
        pathology=worst_pathology(boxes) or (None if abnormalities else "normal"),
        marks=ImageMarks(boxes, Silence.NEGATIVE),  # its line says that it has no overlay, and so no abnormality
        origin={"rows": [f"{view.row.path.name}:{view.row.line}"]},
    )


def _box(abnormality: Abnormality, outline: Polygon, scale: tuple[float, float]) -> ImportedBox:
    """The box around whole pixels: the outline goes through pixels, which reach half a pixel further on every side."""
    middles = [((x + 0.5) * scale[0], (y + 0.5) * scale[1]) for x, y in outline]
    half = scale[0] / 2, scale[1] / 2
    xs, ys = [x for x, _ in middles], [y for _, y in middles]
    box = Box(min(xs) - half[0], min(ys) - half[1], max(xs) + half[0], max(ys) + half[1])
    polygons = (tuple(middles),) if len(middles) > 2 else ()
    return ImportedBox(box, abnormality.label, dict(abnormality.attributes), polygons)


DDSM = Collection(
    key="ddsm",
    title="DDSM",
    licence="free for research, to be cited",
    citation=(
        "M. Heath, K. Bowyer, D. Kopans, R. Moore, W. P. Kegelmeyer: The Digital Database for Screening Mammography. "
        "Proceedings of the Fifth International Workshop on Digital Mammography, 212-218, 2001."
    ),
    url="http://www.eng.usf.edu/cvprg/mammography/database.html",
    labels=(MASS, CALCIFICATION, ABNORMALITY),
    recognise=_recognise,
    read=_read,
    names=r"(?<![A-Za-z0-9])[A-D]_\d{4}_\d[._](?:LEFT|RIGHT)_(?:CC|MLO)",
)
