"""INbreast: full-field DICOM files, one table, one OsiriX plist of contours an image.

The table's patient column says ``removed``: the patient is the second word of the DICOM file's name
(``22678622_61a13b9b1cbf6f3a_MG_R_CC_ANON.dcm``), the image the first, in the table and as the plist's name as well.
"""

import plistlib
import re
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
    outlined,
)
from mammoscope.datasets.collections.scan import Header, Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source, spacing_of
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.records import ImportedBox, ImportedImage

SPICULATED = "Spiculated region"
_COLUMNS = ("Laterality", "View", "File Name", "ACR", "Bi-Rads")
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
    table = source.inventory.table(_COLUMNS, "table of INbreast")
    headers = {match["image"]: (header, match["patient"]) for header in source.headers
               if (match := _FILE.match(header.path.name))}  # fmt: skip
    contours = {path.stem: path for path in source.inventory.files if path.suffix.lower() == ".xml"}
    rows = [row for row in table.rows if row["File Name"].isdecimal()]  # the sheet ends with sums and remarks
    missing = Missing(source, named=len(rows))
    images, points, unknown = [], 0, 0
    for row in rows:
        name = row["File Name"]
        if name not in headers:
            missing.add(row, f"the DICOM file {name}_….dcm")
            continue
        boxes, dots, others = _boxes(contours[name]) if name in contours else ([], 0, 0)
        points, unknown = points + dots, unknown + others
        images.append(_image(row, *headers[name], boxes, dots))
    notes = [*missing.settle()]
    if points:
        notes.append(f"{points} contours are single points without an area, most of them calcifications: not boxes.")
    if unknown:
        notes.append(f"{unknown} contours carry no name of a lesion and were left out.")
    return Collected(tuple(images), tuple(notes))


def _image(row: Row, header: Header, patient: str, boxes: list[ImportedBox], dots: int) -> ImportedImage:
    birads = birads_of(row["Bi-Rads"])
    return ImportedImage(
        path=header.path,
        rows=header.rows,
        columns=header.columns,
        patient=patient,
        laterality=laterality_of(row["Laterality"]) or header.laterality,
        view=view_of(row["View"]) or header.view,
        scanner=header.scanner,
        spacing_mm=spacing_of(header),
        density=density_of(row["ACR"]),
        boxes=tuple(boxes),
        attributes={**({"birads": birads} if birads else {}), **({"points": dots} if dots else {})},
        origin={"sop_instance_uid": header.sop_instance, "rows": [f"{row.path.name}:{row.line}"]},
    )


def _boxes(path: Path) -> tuple[list[ImportedBox], int, int]:
    """Boxes of a plist, and how many contours are points and how many have no name that is known."""
    boxes, points, unknown = [], 0, 0
    for region in _regions(path):
        name = str(region.get("Name", "")).strip()
        corners = _corners(path, region.get("Point_px"))
        label = _LABELS.get(name.casefold())
        if label is None and not re.fullmatch(r"(?i)(point|ponto)\s*\d*", name):
            unknown += 1
        elif label is None or (box := outlined(corners, label, {"name": name})) is None:
            points += 1
        else:
            boxes.append(box)
    return boxes, points, unknown


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
)
