"""VinDr-Mammo: DICOM files, a table of findings, a table of breasts, its own split.

A finding's categories are a Python list in one cell (``['Mass', 'Suspicious Calcification']``). Images without a
finding have a row without a box. There is no patient's number: each study counts as a patient, as its owner does.
"""

import ast

from mammoscope.datasets.collections.base import (
    ASYMMETRY,
    CALCIFICATION,
    DISTORTION,
    LYMPH_NODE,
    MASS,
    Collected,
    birads_of,
    density_of,
)
from mammoscope.datasets.collections.scan import Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source, spacing_of
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.records import ImportedBox, ImportedImage
from mammoscope.findings import Box

_COLUMNS = (
    "study_id", "series_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads",
    "breast_density", "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax", "split",
)  # fmt: skip
_BREASTS = ("study_id", "series_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads",
            "breast_density", "split")  # fmt: skip
_NONE = "No Finding"
_LABELS = {
    "Mass": MASS,
    "Suspicious Calcification": CALCIFICATION,
    "Architectural Distortion": DISTORTION,
    "Asymmetry": ASYMMETRY,
    "Focal Asymmetry": ASYMMETRY,
    "Global Asymmetry": ASYMMETRY,
    "Suspicious Lymph Node": LYMPH_NODE,
}
_SPLITS = {"training": "train", "test": "test"}


def _recognise(inventory: Inventory) -> bool:
    return inventory.recognises(_COLUMNS) and any("finding_categories" in names for names in inventory.headers.values())


def _read(source: Source) -> Collected:
    findings = source.inventory.table(_COLUMNS, "table of findings of VinDr-Mammo")
    by_image: dict[str, list[Row]] = {}
    for row in findings.rows:
        by_image.setdefault(row.needed("image_id"), []).append(row)
    # images that only the breast-level table has would be lost otherwise
    for table in source.inventory.tables(_BREASTS, "breast-level table of VinDr-Mammo"):
        if not table.has("finding_categories"):
            for row in table.rows:
                by_image.setdefault(row.needed("image_id"), []).append(row)
    files = source.inventory.by_stem(source.inventory.dicom)
    headers = {header.path: header for header in source.headers}
    missing = Missing(source, named=len(by_image))
    images = []
    for image, rows in by_image.items():
        path = files.get(image.casefold())
        if path is None or path not in headers:
            missing.add(rows[0], f"the image {image}.dicom")
            continue
        header, row = headers[path], rows[0]
        _check_size(row, header.rows, header.columns)
        birads = birads_of(row["breast_birads"])
        images.append(
            ImportedImage(
                path=path,
                rows=header.rows,
                columns=header.columns,
                patient=row.needed("study_id"),
                file_name=f"{row['study_id']}/{path.name}",
                study=row["study_id"],
                laterality=laterality_of(row["laterality"]),
                view=view_of(row["view_position"]),
                scanner=header.scanner,
                spacing_mm=spacing_of(header),
                density=density_of(row["breast_density"]),
                split=_split(row),
                boxes=tuple(box for other in rows for box in _boxes(other, header.rows, header.columns)),
                attributes={"birads": birads} if birads else {},
                origin={"sop_instance_uid": header.sop_instance, "rows": [f"{r.path.name}:{r.line}" for r in rows]},
            )
        )
    return Collected(tuple(images), missing.settle())


def _check_size(row: Row, rows: int, columns: int) -> None:
    if (row.number("height"), row.number("width")) != (rows, columns):
        raise row.error(
            f"the image has {row['height']} rows and {row['width']} columns there but {rows} and {columns} in its "
            "file, so its boxes do not fit: copy both again from their source"
        )


def _split(row: Row) -> str:
    if row["split"] not in _SPLITS:
        raise row.error(f"the split {row['split']!r} is neither 'training' nor 'test'")
    return _SPLITS[row["split"]]


def _boxes(row: Row, rows: int, columns: int) -> list[ImportedBox]:
    """The finding of a row; none for a row without one."""
    text = row.get("finding_categories")
    if not text:
        return []
    categories = _categories(row, text)
    if categories == [_NONE]:
        return []
    edges = [row.number(edge) for edge in ("xmin", "ymin", "xmax", "ymax")]
    try:
        box = Box(*edges)
    except ValueError:
        raise row.error(f"the box {edges} has no area") from None
    if box.clipped(rows, columns) is None:
        raise row.error(f"the box {edges} lies outside its image of {rows} rows and {columns} columns")
    birads = birads_of(row["finding_birads"])
    attributes = {"categories": ", ".join(categories), **({"birads": birads} if birads else {})}
    return [ImportedBox(box, _label(categories), attributes)]


def _categories(row: Row, text: str) -> list[str]:
    try:
        categories = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        categories = None
    if not isinstance(categories, list) or not categories or not all(isinstance(c, str) for c in categories):
        raise row.error(f"the finding categories {text[:40]!r} are no list such as ['Mass']")
    return categories


def _label(categories: list[str]) -> str:
    """One label a box: a mass with calcifications in it is a mass."""
    return MASS if "Mass" in categories else _LABELS.get(categories[0], categories[0])


VINDR_MAMMO = Collection(
    key="vindr-mammo",
    title="VinDr-Mammo",
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    citation=(
        "H. T. Nguyen et al.: VinDr-Mammo: a large-scale benchmark dataset for computer-aided diagnosis in full-field "
        "digital mammography. Scientific Data 10:277, 2023, doi 10.1038/s41597-023-02100-7; data: "
        "doi 10.13026/br2v-7517."
    ),
    url="https://physionet.org/content/vindr-mammo/",
    labels=(MASS, CALCIFICATION, ASYMMETRY, DISTORTION, LYMPH_NODE),
    recognise=_recognise,
    read=_read,
)
