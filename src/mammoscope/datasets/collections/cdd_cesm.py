"""CDD-CESM: JPEG pictures of contrast-enhanced mammography, a sheet of readings, contours drawn with VIA.

Each view is there as the low-energy picture (DM in its name), which looks like a mammogram, and as the subtracted one
(CM), which does not: they are separate `parts`.
"""

import json
import re
from collections.abc import Iterable
from math import cos, hypot, sin
from typing import Any

from mammoscope.datasets.collections.base import (
    ABNORMALITY,
    ASYMMETRY,
    CALCIFICATION,
    DISTORTION,
    MASS,
    NON_MASS,
    Collected,
    birads_of,
    density_of,
    pathology_of,
)
from mammoscope.datasets.collections.scan import Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.identity import kinds_in, laterality_of, view_of
from mammoscope.datasets.image_marks import (
    ImageMarks,
    ImportedBox,
    LeftMark,
    MarkError,
    PassedOverError,
    Silence,
    UnknownMarkError,
    account,
)
from mammoscope.datasets.records import ImportedImage
from mammoscope.datasets.review_log import ReviewState
from mammoscope.findings import Box

_SHEET = ("Image_name", "Patient_ID", "Side", "Type", "View", "Pathology Classification/ Follow up")
_SHEET_OPTIONAL = ("Age", "Machine", "Breast density (ACR)", "BIRADS", "Findings", "Tags")
_CONTOURS = ("#filename", "region_count", "region_id", "region_shape_attributes", "region_attributes")
_PARTS = {"low-energy": ("DM",), "subtracted": ("CM", "CESM"), "both": ("DM", "CM", "CESM")}
_KINDS = {
    "mass": MASS, "calcif": CALCIFICATION, "microcalcif": CALCIFICATION, "asymmetr": ASYMMETRY, "distort": DISTORTION,
    "non mass enhancement": NON_MASS, "non-mass enhancement": NON_MASS, "nonmass enhancement": NON_MASS,
}  # fmt: skip


def _recognise(inventory: Inventory) -> bool:
    return inventory.recognises(_SHEET)


def _read(source: Source) -> Collected:
    sheet = source.inventory.table(_SHEET, "sheet of readings of CDD-CESM", _SHEET_OPTIONAL)
    contours: dict[str, list[Row]] = {}
    for row in source.inventory.table(_CONTOURS, "table of contours of CDD-CESM").rows:
        contours.setdefault(_stem(row.needed("#filename")), []).append(row)
    by_image: dict[str, list[Row]] = {}
    for row in sheet.rows:
        if row["Type"].upper() in _PARTS[source.only]:
            by_image.setdefault(_stem(row.needed("Image_name")), []).append(row)
    files = source.inventory.by_stem(source.inventory.pictures)
    missing = Missing(source, named=len(by_image))
    images = []
    for name, rows in by_image.items():
        if name not in files:
            missing.add(rows[0], f"{rows[0]['Image_name']}.jpg")
            continue
        size = source.size(files[name])
        first = rows[0]
        pathologies = {pathology_of(row["Pathology Classification/ Follow up"]) or "" for row in rows}
        pathology = next((word for word in ("malignant", "benign", "normal") if word in pathologies), None)
        images.append(
            ImportedImage(
                path=files[name],
                rows=size[0],
                columns=size[1],
                patient=f"P{first.needed('Patient_ID').upper().removeprefix('P')}",
                laterality=laterality_of(first["Side"]),
                view=view_of(first["View"]),
                scanner=first.get("Machine") or None,
                density=density_of(first.get("Breast density (ACR)")),
                pathology=pathology,
                marks=_marks(contours.get(name, []), size, _label(rows), pathology),
                attributes=_attributes(rows),
                origin={"rows": [f"{row.path.name}:{row.line}" for row in (*rows, *contours.get(name, ()))]},
            )
        )
    return Collected(tuple(images), (*missing.settle(), *_told(images)))


def _stem(name: str) -> str:
    """A picture's name as compared: some have a blank before the suffix."""
    return re.sub(r"\s*\.jpe?g$", "", name.strip(), flags=re.IGNORECASE).strip().casefold()


def _label(rows: list[Row]) -> str:
    """The kind of lesion if the reading of the image names only one: contours carry no class."""
    words = "; ".join(row.get(column) for row in rows for column in ("Findings", "Tags"))
    kinds = kinds_in(words, _KINDS)
    return kinds[0] if len(kinds) == 1 else ABNORMALITY


def _attributes(rows: list[Row]) -> dict[str, str]:
    modality = "low-energy" if rows[0]["Type"].upper() == "DM" else "subtracted"
    assessments = sorted({b for row in rows for part in row.get("BIRADS").split("$") if (b := birads_of(part))})
    tags = sorted({tag for row in rows if (tag := row.get("Tags"))})
    said = {"modality": modality, "birads": assessments[-1] if assessments else "", "tags": "; ".join(tags)}
    return {name: value for name, value in said.items() if value}


def _marks(rows: list[Row], size: tuple[int, int], label: str, pathology: str | None) -> ImageMarks:
    """The regions of an image: a few are points, which have no area; one that cannot be placed refuses nothing."""
    lacking = []
    regions: list[tuple[str, Row]] = []
    for row in rows:
        where = f"{row.path.name}:{row.line}"
        if row["region_shape_attributes"] == "{}":
            continue
        if (box := _place(row)) is not None and box.clipped(*size) is None:
            lacking.append(LeftMark("a region outside its image", where))
        else:
            regions.append((where, row))
    return account(
        regions,
        lambda _where, row: _box(row, label),
        Silence.NEGATIVE if pathology == "normal" else Silence.UNANNOTATED,
        not_outlined=lacking,
    )


def _place(row: Row) -> Box | None:
    try:
        return _box(row, ABNORMALITY).box
    except MarkError:
        return None


def _box(row: Row, label: str) -> ImportedBox:
    """The box of a region.

    Raises
    ------
    PassedOverError, UnknownMarkError
        If it is a point, or its shape is not understood.
    """
    try:
        shape = json.loads(row["region_shape_attributes"])
    except json.JSONDecodeError:
        shape = None
    if not isinstance(shape, dict):
        raise UnknownMarkError("a region whose shape is not JSON")
    if shape.get("name") in ("point", "line"):
        raise PassedOverError(f"a {shape['name']}, which has no area")
    try:
        box, polygons = _shape(shape)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UnknownMarkError(f"a region without an area in its shape {str(shape.get('name'))[:20]!r}") from None
    return ImportedBox(box, label, {"region": row["region_id"]}, polygons)


def _shape(shape: dict[str, Any]) -> tuple[Box, tuple[tuple[tuple[float, float], ...], ...]]:
    """The box of a VIA region, and its outline if it is one.

    https://www.robots.ox.ac.uk/~vgg/software/via/docs/
    """
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        points = tuple((float(x), float(y)) for x, y in zip(shape["all_points_x"], shape["all_points_y"], strict=True))
        xs, ys = zip(*points, strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys)), (points,) if len(points) > 2 else ()
    if kind == "rect":
        return Box.from_xywh(*(float(shape[side]) for side in ("x", "y", "width", "height"))), ()
    x, y = float(shape["cx"]), float(shape["cy"])
    if kind == "circle":
        across = down = float(shape["r"])
    else:
        turn = float(shape.get("theta", 0.0))  # radians
        long, short = float(shape["rx"]), float(shape["ry"])
        across, down = hypot(long * cos(turn), short * sin(turn)), hypot(long * sin(turn), short * cos(turn))
    return Box(x - across, y - down, x + across, y + down), ()


def _told(images: list[ImportedImage]) -> Iterable[str]:
    if silent := sum(image.marks.state is ReviewState.UNANNOTATED for image in images):
        yield (
            f"{silent} images are of a benign or malignant finding but have no contour: they are marked 'unannotated', "
            "since no box says nothing there."
        )
    if vague := sum(box.label == ABNORMALITY for image in images for box in image.boxes):
        yield f"{vague} contours are of the class {ABNORMALITY!r}: the reading of their image names no single kind."


CDD_CESM = Collection(
    key="cdd-cesm",
    title="CDD-CESM",
    licence="CC BY 4.0",
    citation=(
        "R. Khaled et al.: Categorized contrast enhanced mammography dataset for diagnostic and artificial "
        "intelligence research. Scientific Data 9:122, 2022, doi 10.1038/s41597-022-01238-0; data: "
        "doi 10.7937/29kw-ae92."
    ),
    url="https://www.cancerimagingarchive.net/collection/cdd-cesm/",
    labels=(MASS, CALCIFICATION, ASYMMETRY, DISTORTION, NON_MASS, ABNORMALITY),
    recognise=_recognise,
    read=_read,
    parts=("low-energy", "subtracted", "both"),
    names=r"(?<![A-Za-z0-9])P\d{1,3}_[LR]_(?:DM|CM)_",
)
