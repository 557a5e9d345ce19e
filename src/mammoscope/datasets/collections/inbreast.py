"""INbreast: full-field DICOM files, one table, one OsiriX plist of contours an image.

The table's patient column says ``removed``: the patient is the second word of the DICOM file's name
(``22678622_61a13b9b1cbf6f3a_MG_R_CC_ANON.dcm``), the image the first, in the table and as the plist's name as well.
"""

import plistlib
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from mammoscope.datasets.collections.base import (
    ASYMMETRY,
    CALCIFICATION,
    DISTORTION,
    MASS,
    Collected,
    Point,
    birads_of,
    density_of,
    not_outlined,
    outlined,
)
from mammoscope.datasets.collections.scan import Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Shown, Source, scale_between, spacing_of
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.image_marks import (
    ImageMarks,
    ImportedBox,
    LeftMark,
    PassedOverError,
    Silence,
    UnknownMarkError,
    account,
)
from mammoscope.datasets.records import ImportedImage

SPICULATED = "Spiculated region"
_COLUMNS = ("Laterality", "View", "File Name", "ACR", "Bi-Rads")
_MARKED = {"Mass": MASS, "Micros": CALCIFICATION, "Distortion": DISTORTION, "Asymmetry": ASYMMETRY}
"""Columns of the sheet that say with an X which kinds of lesion an image shows; the table as CSV has none of them."""
_STATUS = "Lesion Annotation Status"
_SIZES = ((3328, 2560), (4084, 3328))
"""Rows and columns that its images have: contours are in their pixels, whatever became of a picture since."""
_FILE = re.compile(r"(?P<image>\d{5,})_(?P<patient>[0-9a-f]{8,})(?:_|$)", re.IGNORECASE)
_POINT = re.compile(r"\(\s*([-+0-9.eE]+)\s*,\s*([-+0-9.eE]+)\s*\)")
_LABELS = {  # the annotators' words, slips of the pen included
    "mass": MASS,
    "calcification": CALCIFICATION,
    "calcifications": CALCIFICATION,
    "cluster": CALCIFICATION,
    "asymmetry": ASYMMETRY,
    "assymetry": ASYMMETRY,
    "distortion": DISTORTION,
    "spiculated region": SPICULATED,
    "espiculated region": SPICULATED,
}


def _recognise(inventory: Inventory) -> bool:
    return inventory.recognises(_COLUMNS)


def _read(source: Source) -> Collected:
    table = source.inventory.table(_COLUMNS, "table of INbreast", (*_MARKED, _STATUS))
    files = {match["image"]: (shown, match["patient"]) for name, shown in source.shown.items()
             if (match := _FILE.match(name))}  # fmt: skip
    contours = {path.stem: path for path in source.inventory.files if path.suffix.lower() == ".xml"}
    rows = [row for row in table.rows if row["File Name"].isdecimal()]  # the sheet ends with sums and remarks
    missing = Missing(source, named=len(rows))
    images, points, unknown, scaled = [], 0, 0, 0
    for row in rows:
        name = row["File Name"]
        if name not in files:
            missing.add(row, f"the DICOM file {name}_….dcm")
            continue
        shown, patient = files[name]
        size = shown.size(source)
        scale = (1.0, 1.0) if shown.header else _scale(size)
        scaled += scale not in (None, (1.0, 1.0))
        marks = _marks(row, contours.get(name), scale)
        dots = sum(left.why == _POINT_WITHOUT_AREA for left in marks.passed_over)
        points, unknown = points + dots, unknown + len(marks.unknown)
        images.append(_image(row, shown, size, patient, marks, dots))
    notes = [*missing.settle()]
    if points:
        notes.append(f"{points} contours are single points without an area, most of them calcifications: not boxes.")
    if unknown:
        notes.append(f"{unknown} contours carry no name of a lesion and were left out.")
    if scaled:
        notes.append(f"{scaled} pictures are of another size than INbreast's images: their boxes were scaled.")
    if lacking := sum(bool(image.marks.not_outlined) for image in images):
        notes.append(
            f"On {lacking} images the table says a lesion that no contour shows: they are marked 'unannotated'. Is the "
            "folder of contours, AllXML, there?"
        )
    return Collected(tuple(images), tuple(notes))


def _scale(size: tuple[int, int]) -> tuple[float, float] | None:
    return next((scale for original in _SIZES if (scale := scale_between(original, size))), None)


def _marks(row: Row, contours: Path | None, scale: tuple[float, float] | None) -> ImageMarks:
    """The contours of an image, compared with the kinds that its row says.

    No lesion is said by BI-RADS 1, by the status "No annotation (normal)", and by a file of contours without any.
    """
    where = f"{row.path.name}:{row.line}"
    said = [kind for column, kind in _MARKED.items() if row.get(column).casefold() == "x"]
    none = birads_of(row["Bi-Rads"]) == "1" or "normal" in row.get(_STATUS).casefold() or contours is not None
    silence = Silence.NEGATIVE if none and not said else Silence.UNANNOTATED
    regions = _regions(contours) if contours else []
    if scale is None:
        return ImageMarks((), silence, not_outlined=tuple(
            LeftMark("a contour that does not fit its picture", where) for _ in regions or said))  # fmt: skip
    marks = account(
        ((f"{row['File Name']}.xml, contour {n}", region) for n, region in enumerate(regions, start=1)),
        partial(_box, path=contours or row.path, scale=scale),
        silence,
    )
    found = [box.label for box in marks.boxes]
    # the sheet has no column for spiculated regions: they are masses or distortions there
    found += [kind for box in marks.boxes if box.label == SPICULATED for kind in (MASS, DISTORTION)]
    found += [CALCIFICATION for left in marks.passed_over if left.why == _POINT_WITHOUT_AREA]
    return replace(marks, not_outlined=not_outlined(said, found, where))


def _image(row: Row, shown: Shown, size: tuple[int, int], patient: str, marks: ImageMarks, dots: int) -> ImportedImage:
    header = shown.header
    birads = birads_of(row["Bi-Rads"])
    return ImportedImage(
        path=shown.path,
        rows=size[0],
        columns=size[1],
        patient=patient,
        laterality=laterality_of(row["Laterality"]) or (header.laterality if header else None),
        view=view_of(row["View"]) or (header.view if header else None),
        scanner=header.scanner if header else None,
        spacing_mm=spacing_of(header) if header else None,
        density=density_of(row["ACR"]),
        marks=marks,
        attributes={**({"birads": birads} if birads else {}), **({"points": dots} if dots else {})},
        origin={
            **({"sop_instance_uid": header.sop_instance} if header else {}),
            "rows": [f"{row.path.name}:{row.line}"],
        },
    )


_POINT_WITHOUT_AREA = "a point without an area"


def _box(_where: str, region: dict[str, Any], path: Path, scale: tuple[float, float]) -> ImportedBox:
    """The box of a contour.

    Raises
    ------
    PassedOverError, UnknownMarkError
        If it is a single point, or has no name that is known.
    """
    name = str(region.get("Name", "")).strip()
    corners = [(x * scale[0], y * scale[1]) for x, y in _corners(path, region.get("Point_px"))]
    label = _LABELS.get(name.casefold())
    if label is None and not re.fullmatch(r"(?i)(point|ponto)\s*\d*", name):
        raise UnknownMarkError("a contour without the name of a lesion")
    box = None if label is None else outlined(corners, label, {"name": name})
    if box is None:
        raise PassedOverError(_POINT_WITHOUT_AREA)
    return box


def _regions(path: Path) -> list[dict[str, Any]]:
    try:
        document = plistlib.loads(path.read_bytes(), fmt=plistlib.FMT_XML)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    except ExpatError as error:
        raise DatasetError(f"{path}, line {error.lineno}: this XML is cut or damaged: copy it again.") from None
    except Exception as error:  # plistlib raises what the damaged text leads to
        raise DatasetError(f"{path} is no OsiriX contour file: copy it again from its source.") from error
    images = document.get("Images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise DatasetError(f"{path} is no OsiriX contour file: it has no list 'Images'.")
    return [region for image in images if isinstance(image, dict) for region in image.get("ROIs", ())]


def _corners(path: Path, points: object) -> list[Point]:
    corners = []
    for text in points if isinstance(points, list) else ():
        match = _POINT.fullmatch(str(text).strip())
        try:
            corners.append((float(match[1]), float(match[2])) if match else None)
        except ValueError:
            corners.append(None)
        if corners[-1] is None:
            raise DatasetError(f"{path}: a contour has the point {str(text)[:40]!r}, which is not '(x, y)'.")
    return [corner for corner in corners if corner is not None]


INBREAST = Collection(
    key="inbreast",
    title="INbreast",
    licence="by its owner's agreement, for research",
    citation=(
        "I. C. Moreira et al.: INbreast: toward a full-field digital mammographic database. Academic Radiology "
        "19(2):236-248, 2012, doi 10.1016/j.acra.2011.09.014."
    ),
    url="https://doi.org/10.1016/j.acra.2011.09.014",
    labels=(MASS, CALCIFICATION, ASYMMETRY, DISTORTION, SPICULATED),
    recognise=_recognise,
    read=_read,
    names=r"\d{8}_[0-9a-f]{16}_MG_[LR]_",
)
