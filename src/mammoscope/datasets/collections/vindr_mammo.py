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
from mammoscope.datasets.collections.scan import Header, Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source, scale_between, spacing_of
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, LeftMark, Silence
from mammoscope.datasets.records import ImportedImage
from mammoscope.findings import Box

_COLUMNS = (
    "study_id", "series_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads",
    "breast_density", "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax", "split",
)  # fmt: skip
_BREASTS = ("study_id", "series_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads",
            "breast_density", "split")  # fmt: skip
_EDGES = ("xmin", "ymin", "xmax", "ymax")
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
    files = source.shown
    missing = Missing(source, named=len(by_image))
    images, scaled = [], 0
    for image, rows in by_image.items():
        shown = files.get(image.casefold())
        if shown is None:
            missing.add(rows[0], f"the image {image}.dicom")
            continue
        header, row, size = shown.header, rows[0], shown.size(source)
        scale = _scale(row, size, header)
        scaled += size != (row.number("height"), row.number("width"))
        birads = birads_of(row["breast_birads"])
        images.append(
            ImportedImage(
                path=shown.path,
                rows=size[0],
                columns=size[1],
                patient=row.needed("study_id"),
                file_name=f"{row['study_id']}/{shown.path.name}",
                study=row["study_id"],
                laterality=laterality_of(row["laterality"]),
                view=view_of(row["view_position"]),
                scanner=header.scanner if header else None,
                spacing_mm=spacing_of(header) if header else None,
                density=density_of(row["breast_density"]),
                split=_split(row),
                marks=_marks(rows, size, scale),
                attributes={"birads": birads} if birads else {},
                origin={
                    **({"sop_instance_uid": header.sop_instance} if header else {}),
                    "rows": [f"{r.path.name}:{r.line}" for r in rows],
                },
            )
        )
    told = (f"{scaled} pictures are of another size than their originals and of the same shape: their boxes were "
            "scaled.",) if scaled else ()  # fmt: skip
    return Collected(tuple(images), (*missing.settle(), *told))


def _scale(row: Row, size: tuple[int, int], header: Header | None) -> tuple[float, float]:
    """(across, down) from the table's pixels to the file's; only a picture may have been made smaller."""
    stated = row.number("height"), row.number("width")
    if stated == size:
        return 1.0, 1.0
    scale = scale_between(stated, size) if header is None and min(stated) > 0 else None
    if scale is None:
        raise row.error(
            f"the image has {row['height']} rows and {row['width']} columns there but {size[0]} and {size[1]} in its "
            "file, so its boxes do not fit: copy both again from their source"
        )
    return scale


def _split(row: Row) -> str:
    if row["split"] not in _SPLITS:
        raise row.error(f"the split {row['split']!r} is neither 'training' nor 'test'")
    return _SPLITS[row["split"]]


def _marks(rows: list[Row], size: tuple[int, int], scale: tuple[float, float]) -> ImageMarks:
    """The findings of an image; a row says either what is there or that nothing is."""
    boxes, lacking, said_nothing = [], [], False
    for row in rows:
        categories = _categories(row, text) if (text := row.get("finding_categories")) else []
        if categories in ([], [_NONE]):
            said_nothing |= categories == [_NONE] or row["breast_birads"] == "BI-RADS 1"
            continue
        if not all(row[edge] for edge in _EDGES):
            lacking.append(LeftMark("a finding without a box", f"{row.path.name}:{row.line}"))
            continue
        edges = [row.number(edge) * scale[n % 2] for n, edge in enumerate(_EDGES)]
        try:
            box = Box(*edges)
        except ValueError:
            lacking.append(LeftMark("a finding whose box has no area", f"{row.path.name}:{row.line}"))
            continue
        if box.clipped(*size) is None:
            lacking.append(LeftMark("a finding outside its image", f"{row.path.name}:{row.line}"))
            continue
        birads = birads_of(row["finding_birads"])
        attributes = {"categories": ", ".join(categories), **({"birads": birads} if birads else {})}
        boxes.append(ImportedBox(box, _label(categories), attributes))
    silence = Silence.NEGATIVE if said_nothing else Silence.UNANNOTATED
    return ImageMarks(tuple(boxes), silence, not_outlined=tuple(lacking))


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
