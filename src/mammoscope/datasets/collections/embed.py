"""EMBED: a table of image files, a table of findings, DICOM files.

`ROI_coords` of the image table holds ``((y0, x0, y1, x1), …)`` in pixels of the whole image, ``()`` where there is
none. Findings belong to a side of an examination, not to a region: a region takes a class, and its pathology, only
where all findings of its side agree.
"""

import ast
from collections.abc import Iterable
from pathlib import Path

from mammoscope.datasets.collections.base import (
    ABNORMALITY,
    ASYMMETRY,
    CALCIFICATION,
    DISTORTION,
    LYMPH_NODE,
    MASS,
    Collected,
    density_of,
)
from mammoscope.datasets.collections.scan import Header, Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source, spacing_of
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, LeftMark, Silence
from mammoscope.datasets.records import ImportedImage
from mammoscope.datasets.review_log import ReviewState
from mammoscope.findings import Box

_IMAGES = (
    "empi_anon", "acc_anon", "anon_dicom_path", "FinalImageType", "ImageLateralityFinal", "ViewPosition", "num_roi",
    "ROI_coords",
)  # fmt: skip
_IMAGES_OPTIONAL = ("png_filename", "spot_mag", "match_level")
_FINDINGS = ("empi_anon", "acc_anon", "numfind", "side", "asses", "tissueden", "massshape", "calcfind", "path_severity")
_FINDINGS_OPTIONAL = ("massmargin", "massdens")
_PARTS = {"2d": ("2d",), "c-view": ("cview",), "both": ("2d", "cview")}

_SHAPES = {  # the owner's legend of massshape, which holds more than masses
    **dict.fromkeys("GROX", MASS),
    **dict.fromkeys("QA", DISTORTION),
    **dict.fromkeys("TBFSV", ASYMMETRY),
    **dict.fromkeys("NY", LYMPH_NODE),
}
_BIRADS = {"A": "0", "N": "1", "B": "2", "P": "3", "S": "4", "M": "5", "K": "6"}
_PATHOLOGY = {
    "0": "malignant", "1": "malignant", "2": "high-risk", "3": "borderline", "4": "benign", "5": "benign",
    "6": "non-breast cancer",
}  # fmt: skip
_NEGATIVE = frozenset("NB")
_Side = tuple[str, str]


def _recognise(inventory: Inventory) -> bool:
    return inventory.recognises(_IMAGES)


def _read(source: Source) -> Collected:
    # the full and the reduced tables may lie side by side: the one that fits best is enough
    table = source.inventory.table(_IMAGES, "image table of EMBED", _IMAGES_OPTIONAL)
    findings = _findings(source)
    headers = {header.path: header for header in source.headers}
    rows = [row for row in table.rows if _type(row) in _PARTS[source.only]]
    missing = Missing(source, named=len(rows))
    images = []
    for row in rows:
        path = source.inventory.resolve(row["anon_dicom_path"]) or source.inventory.resolve(row.get("png_filename"))
        if path is None:
            missing.add(row, _last(row["anon_dicom_path"]))
            continue
        header = headers.get(path)
        size = (header.rows, header.columns) if header else source.size(path)
        said = [
            *findings.get((row["acc_anon"], row["ImageLateralityFinal"]), ()),
            *findings.get((row["acc_anon"], ""), ()),
        ]
        images.append(_image(row, path, size, header, _marks(row, size, said), said))
    return Collected(tuple(images), (*missing.settle(), *_told(images)))


def _marks(row: Row, size: tuple[int, int], said: list[Row]) -> ImageMarks:
    """The regions of an image, compared with how many its row counts."""
    where = f"{row.path.name}:{row.line}"
    regions = _regions(row)
    inside = [region for region in regions or () if region.clipped(*size) is not None]
    lacking = [LeftMark("a region outside its image", where)] * (len(regions or ()) - len(inside))
    if regions is None:
        lacking = [LeftMark("ROI_coords that are no list of boxes", where)]
    elif (counted := _count(row["num_roi"])) > len(regions):
        lacking += [LeftMark("a region that is counted and has no place", where)] * (counted - len(regions))
    negative = bool(said) and all(finding["asses"].upper() in _NEGATIVE for finding in said)
    return ImageMarks(
        tuple(ImportedBox(region, _label(said), _attributes(said)) for region in inside),
        Silence.NEGATIVE if negative else Silence.UNANNOTATED,
        not_outlined=tuple(lacking),
    )


def _count(text: str) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return 0


def _findings(source: Source) -> dict[_Side, list[Row]]:
    """Findings by examination and side; those of both sides, or of none that is said, under no side."""
    found: dict[_Side, list[Row]] = {}
    for row in source.inventory.table(_FINDINGS, "table of findings of EMBED", _FINDINGS_OPTIONAL).rows:
        side = row["side"] if row["side"] in ("L", "R") else ""
        found.setdefault((row["acc_anon"], side), []).append(row)
    return found


def _type(row: Row) -> str:
    return row["FinalImageType"].casefold().replace("-", "")


def _last(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1] or "an image without a file name"


def _regions(row: Row) -> list[Box] | None:
    """The boxes of a row; ``None`` where they are not understood."""
    text = row["ROI_coords"]
    if text in ("", "()", "[]", "nan"):
        return []
    try:
        regions = ast.literal_eval(text)
        if regions and isinstance(regions[0], int | float):  # a tuple of one region lost its comma
            regions = [regions]
        return [Box(float(x0), float(y0), float(x1), float(y1)) for y0, x0, y1, x1 in regions]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _kinds(said: list[Row]) -> set[str]:
    kinds = {_SHAPES[row["massshape"].upper()] for row in said if row["massshape"].upper() in _SHAPES}
    if any(row["calcfind"] not in ("", "nan") for row in said):
        kinds.add(CALCIFICATION)
    return kinds


def _label(said: list[Row]) -> str:
    kinds = _kinds(said)
    return kinds.pop() if len(kinds) == 1 else ABNORMALITY


def _attributes(said: list[Row]) -> dict[str, str]:
    """What all findings of the side agree on."""
    severities = {row["path_severity"].removesuffix(".0") for row in said} - {"", "nan"}
    agreed = {
        "birads": {birads for row in said if (birads := _BIRADS.get(row["asses"].upper()))},
        "pathology": {_PATHOLOGY[severity] for severity in severities if severity in _PATHOLOGY},
        "margins": {row.get("massmargin") for row in said} - {"", "nan"},
    }
    return {name: values.pop() for name, values in agreed.items() if len(values) == 1}


def _image(
    row: Row, path: Path, size: tuple[int, int], header: Header | None, marks: ImageMarks, said: list[Row]
) -> ImportedImage:
    density = {density_of(finding["tissueden"]) for finding in said}
    severities = [int(text) for f in said if (text := f["path_severity"].removesuffix(".0")) in _PATHOLOGY]
    attributes = {"image_type": row["FinalImageType"], **{k: v for k, v in _attributes(said).items() if k == "birads"}}
    if row.get("spot_mag").removesuffix(".0") == "1":
        attributes["special_view"] = "spot compression or magnification"
    return ImportedImage(
        path=path,
        rows=size[0],
        columns=size[1],
        patient=row.needed("empi_anon"),
        file_name=f"{row['empi_anon']}/{row['acc_anon']}/{path.name}",
        study=row["acc_anon"] or None,
        laterality=laterality_of(row["ImageLateralityFinal"]),
        view=view_of(row["ViewPosition"]),
        scanner=header.scanner if header else None,
        spacing_mm=spacing_of(header) if header else None,
        density=density.pop() if len(density) == 1 else None,
        pathology=_PATHOLOGY[str(min(severities))] if severities else None,
        marks=marks,
        attributes=attributes,
        origin={"rows": [f"{r.path.name}:{r.line}" for r in (row, *said)]},
    )


def _told(images: list[ImportedImage]) -> Iterable[str]:
    if silent := sum(image.marks.state is ReviewState.UNANNOTATED for image in images):
        yield (
            f"{silent} images have no region although their examination is not negative, or no finding is known of it: "
            "they are marked 'unannotated'."
        )


EMBED = Collection(
    key="embed",
    title="EMBED Open Data",
    licence="Emory's data use agreement for EMBED",
    citation=(
        "J. J. Jeong et al.: The EMory BrEast imaging Dataset (EMBED): a racially diverse, granular dataset of 3.4 "
        "million screening and diagnostic mammographic images. Radiology: Artificial Intelligence 5(1):e220047, 2023, "
        "doi 10.1148/ryai.220047."
    ),
    url="https://github.com/Emory-HITI/EMBED_Open_Data",
    labels=(MASS, CALCIFICATION, ASYMMETRY, DISTORTION, LYMPH_NODE, ABNORMALITY),
    recognise=_recognise,
    read=_read,
    parts=("2d", "c-view", "both"),
)
