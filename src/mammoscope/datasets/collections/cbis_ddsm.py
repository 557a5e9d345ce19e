"""CBIS-DDSM: the DICOM tree of The Cancer Imaging Archive and its four case tables.

Every abnormality of the tables has a full mammogram, a crop and a mask, each a DICOM object. Which file is which is
told by content: the folders are named by UIDs or as the download tool pleased, the paths of crop and mask are swapped
in many rows, and in some places a second crop lies where the mask should be.

CBIS-DDSM's case tables: what radiologists wrote of each abnormality, joined to images by patient, side and view.

The tables: ``mass_case_description_*.csv`` and ``calc_case_description_*.csv`` of
https://www.cancerimagingarchive.net/collection/cbis-ddsm/.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from mammoscope.datasets.collections.base import (
    CALCIFICATION,
    MASS,
    Collected,
    birads_of,
    density_of,
    pathology_of,
    spread,
    worst_pathology,
)
from mammoscope.datasets.collections.scan import PICTURE_SUFFIXES, Header, Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source, spacing_of
from mammoscope.datasets.collections.tables import Row, Table
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.identity import ImageIdentity, laterality_of, view_of
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, LeftMark, Silence
from mammoscope.datasets.masks import binary_file, parts_of, union
from mammoscope.datasets.records import ImportedImage
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

ASPECT_TOLERANCE = 0.01
"""How far the aspect of a mask of another size may be from that of its mammogram and still be stretched onto it."""

_COLUMNS = (
    "patient_id", "left or right breast", "image view", "abnormality id", "abnormality type", "assessment", "pathology",
    "subtlety", "image file path", "cropped image file path", "ROI mask file path",
)  # fmt: skip
_SAID = {
    "abnormality id": "abnormality",
    "subtlety": "subtlety",
    "mass shape": "shape",
    "mass margins": "margins",
    "calc type": "calcification_type",
    "calc distribution": "calcification_distribution",
}
_DENSITY = ("breast_density", "breast density")  # in the mass and in the calcification tables
_OBJECT = re.compile(r"(Mass|Calc)-(Training|Test)_(P_\d+)_(LEFT|RIGHT)_(CC|MLO)(?:_(\d+))?")
_UID = re.compile(r"[0-9.]{20,64}")
_KINDS = {"mass": "Mass", "calcification": "Calc"}
_SPLITS = {"Training": "train", "Test": "test"}


class _Shown(NamedTuple):
    """Which mammogram: the same in the mass and in the calcification tables."""

    patient: str
    laterality: Laterality
    view: View


@dataclass(frozen=True, slots=True)
class _Case:
    """One abnormality with the files that may be its mammogram, crop and mask."""

    row: Row
    shown: _Shown
    kind: str
    split: str
    mammogram: Header | None
    regions: tuple[Header, ...]

    @property
    def name(self) -> str:
        return f"abnormality {self.row['abnormality id']} of {_stem(self.shown)}"


@dataclass(frozen=True, slots=True)
class _Outline:
    """What the files of an abnormality give: a box in pixels of the mammogram, or why there is none."""

    box: Box | None = None
    scaled: bool = False
    problem: str = ""


@dataclass
class _Image:
    mammogram: Header
    split: str
    cases: list[_Case] = field(default_factory=list)
    boxes: list[ImportedBox] = field(default_factory=list)
    problems: list[LeftMark] = field(default_factory=list)


def _recognise(inventory: Inventory) -> bool:
    return inventory.recognises(_COLUMNS)


def _read(source: Source) -> Collected:
    tables = source.inventory.tables(_COLUMNS, "case table of CBIS-DDSM", (*_SAID, *_DENSITY))
    cases, notes = _without_leaks(_cases(source, tables))
    missing = Missing(source, named=len({case.shown for case in cases}))
    there = []
    for case in cases:
        if case.mammogram is None:
            missing.add(case.row, f"the mammogram {_stem(case.shown)}")
        else:
            there.append(case)
    notes += missing.settle()
    outlines = spread(_outline, there, "reading masks", source.progress, workers=source.workers, serial_up_to=32)
    images = _images(there, outlines)
    return Collected(_imported_all(images), (*notes, *_told(images, outlines)))


def _cases(source: Source, tables: list[Table]) -> list[_Case]:
    by_patient: dict[str, list[Header]] = {}
    by_series: dict[str, list[Header]] = {}
    for header in (*source.headers, *_pictures(source)):
        by_patient.setdefault(header.patient, []).append(header)
        by_series.setdefault(header.series, []).append(header)
    cases = []
    for table in tables:
        for row in table.rows:
            kind = row["abnormality type"].casefold()
            if kind not in _KINDS:
                raise row.error(f"the abnormality type {kind!r} is neither mass nor calcification")
            if source.only in ("both", {"mass": "masses", "calcification": "calcifications"}[kind]):
                cases.append(_case(row, kind, by_patient, by_series))
    return cases


def _case(row: Row, kind: str, by_patient: dict[str, list[Header]], by_series: dict[str, list[Header]]) -> _Case:
    side, view = laterality_of(row["left or right breast"]), view_of(row["image view"])
    if side is None or view is None:
        raise row.error("it names no side and view")
    path = _OBJECT.match(row["image file path"])
    if path is None:
        raise row.error("the image file path does not begin as in 'Mass-Training_P_00001_LEFT_CC/'")
    whole = f"{path[1]}-{path[2]}_{path[3]}_{path[4]}_{path[5]}"
    region = f"{whole}_{row.needed('abnormality id')}"
    # neither key is complete: some masks bear no patient's name but lie in the series of their crop, and some
    # downloads name no series
    mammograms = [*by_patient.get(whole, ()), *_of_series(by_series, row["image file path"])]
    named = by_patient.get(region, ())
    regions = [
        *named,
        *_of_series(by_series, row["cropped image file path"], row["ROI mask file path"]),
        *(header for one in named if one.series for header in by_series[one.series]),
    ]
    mammogram = max(mammograms, key=lambda header: header.rows * header.columns, default=None)
    return _Case(
        row=row,
        shown=_Shown(row.needed("patient_id"), side, view),
        kind=kind,
        split=_SPLITS[path[2]],
        mammogram=mammogram,
        regions=tuple(sorted(set(regions) - {mammogram}, key=lambda header: -header.rows * header.columns)),
    )


_INFO = ("image_path", "PatientID", "SeriesInstanceUID", "SeriesDescription")
"""Columns of ``dicom_info.csv``, which comes with the JPEG copies of the collection on Kaggle."""


def _pictures(source: Source) -> list[Header]:
    """Pictures that were made of the archive's objects, with what their table or their folder's name says of them."""
    pictures = source.inventory.pictures
    if not pictures:
        return []
    told: dict[Path, Row] = {}
    if source.inventory.recognises(_INFO):
        for row in source.inventory.table(_INFO, "table of pictures of CBIS-DDSM").rows:
            if (path := source.inventory.resolve(row["image_path"])) is not None:
                told[path] = row
    found = []
    for path in pictures:
        known = told.get(path)
        series = known["SeriesInstanceUID"] if known else path.parent.name
        if known is None and not _UID.fullmatch(series):
            continue
        rows, columns = source.size(path)
        patient, description = (known["PatientID"], known["SeriesDescription"]) if known else ("", "")
        found.append(Header(path, series=series, patient=patient, description=description, rows=rows, columns=columns))
    return found


def _of_series(by_series: dict[str, list[Header]], *paths: str) -> list[Header]:
    """The files of the series that a path names; its last folder is the series' UID."""
    uids = [uid for path in paths for uid in _UID.findall(path)[-1:]]
    return [header for uid in dict.fromkeys(uids) for header in by_series.get(uid, ())]


def _without_leaks(cases: list[_Case]) -> tuple[list[_Case], tuple[str, ...]]:
    """The mass and the calcification tables were split apart: some patients train in one and test in the other."""
    tested = {case.shown.patient for case in cases if case.split == "test"}
    kept = [case for case in cases if case.split == "test" or case.shown.patient not in tested]
    leaks = {case.shown.patient for case in cases} & {c.shown.patient for c in cases if c.split == "train"} & tested
    if not leaks:
        return kept, ()
    return kept, (
        f"{len(leaks)} patients are in the training set of one kind of abnormality and in the test set of the other: "
        f"they stay in the test set, and {len(cases) - len(kept)} of their training abnormalities were left out.",
    )


def _outline(case: _Case) -> _Outline:
    mammogram = case.mammogram
    assert mammogram is not None
    other_shape = ""
    for header in case.regions:
        if (mask := binary_file(header.path)) is None:
            continue
        across, down = mammogram.columns / header.columns, mammogram.rows / header.rows
        if abs(across / down - 1) > ASPECT_TOLERANCE:
            other_shape = (
                f"its mask of {header.rows} rows and {header.columns} columns does not fit its mammogram of "
                f"{mammogram.rows} and {mammogram.columns}"
            )
            continue
        found = union(parts_of(mask))
        box = Box(found.x0 * across, found.y0 * down, found.x1 * across, found.y1 * down)
        return _Outline(box, scaled=(across, down) != (1.0, 1.0))
    if other_shape or not case.regions:
        return _Outline(problem=other_shape or "neither its mask nor its crop is there")
    return _Outline(problem=f"{case.regions[0].path.name} lies where its mask should be and is a crop")


def _images(cases: Iterable[_Case], outlines: Iterable[_Outline]) -> list[_Image]:
    """Mammograms with all their abnormalities; a mass and a calcification copy of the same size are one."""
    images: dict[tuple[_Shown, int, int], _Image] = {}
    for case, outline in zip(cases, outlines, strict=True):
        mammogram = case.mammogram
        assert mammogram is not None
        image = images.setdefault((case.shown, mammogram.rows, mammogram.columns), _Image(mammogram, case.split))
        image.cases.append(case)
        if outline.box is None:
            image.problems.append(LeftMark("an abnormality without a usable mask", f"{case.name}: {outline.problem}"))
        else:
            image.boxes.append(ImportedBox(outline.box, _label(case), _attributes(case.row)))
    return list(images.values())


def _label(case: _Case) -> str:
    return MASS if case.kind == "mass" else CALCIFICATION


def _attributes(row: Row) -> dict[str, str]:
    said = {"pathology": pathology_of(row["pathology"]), "birads": birads_of(row["assessment"])}
    return {name: value for name, value in {**row.said(_SAID), **said}.items() if value}


def _imported_all(images: list[_Image]) -> tuple[ImportedImage, ...]:
    taken: dict[str, int] = {}
    finished = []
    for image in images:
        stem = _stem(image.cases[0].shown)
        taken[stem] = taken.get(stem, 0) + 1
        name = stem if taken[stem] == 1 else f"{stem}_{taken[stem]}"
        finished.append(_imported(image, name))
    return tuple(finished)


def _imported(image: _Image, name: str) -> ImportedImage:
    mammogram, shown = image.mammogram, image.cases[0].shown
    rows = [case.row for case in image.cases]
    densities = {density_of("".join(row.get(column) for column in _DENSITY)) for row in rows}
    return ImportedImage(
        path=mammogram.path,
        rows=mammogram.rows,
        columns=mammogram.columns,
        patient=shown.patient,
        file_name=f"{name}{mammogram.path.suffix if mammogram.path.suffix.lower() in PICTURE_SUFFIXES else '.dcm'}",
        study=mammogram.study or None,
        laterality=shown.laterality,
        view=shown.view,
        scanner="film",
        spacing_mm=spacing_of(mammogram),
        density=densities.pop() if len(densities) == 1 else None,
        pathology=worst_pathology(image.boxes),
        split=image.split,
        # every row of the tables is an abnormality: their silence is about mammograms that they do not name
        marks=ImageMarks(tuple(image.boxes), Silence.UNANNOTATED, not_outlined=tuple(image.problems)),
        origin={
            **({"sop_instance_uid": mammogram.sop_instance} if mammogram.sop_instance else {}),
            "rows": [f"{row.path.name}:{row.line}" for row in rows],
        },
    )


def _told(images: list[_Image], outlines: list[_Outline]) -> Iterable[str]:
    if scaled := sum(outline.scaled for outline in outlines):
        yield f"{scaled} masks have another size than their mammogram and the same aspect: their boxes were scaled."
    if lost := [image for image in images if image.problems]:
        yield (
            f"{len(lost)} mammograms are marked 'unannotated': a lesion on them has no usable mask; the first is "
            f"{lost[0].problems[0].where}."
        )


def _stem(shown: _Shown) -> str:
    return f"{shown.patient}_{'LEFT' if shown.laterality is Laterality.LEFT else 'RIGHT'}_{shown.view}"


CBIS_DDSM = Collection(
    key="cbis-ddsm",
    title="CBIS-DDSM",
    licence="CC BY 3.0",
    citation=(
        "R. Sawyer-Lee, F. Gimenez, A. Hoogi, D. Rubin: Curated Breast Imaging Subset of DDSM. The Cancer Imaging "
        "Archive, 2016, doi 10.7937/K9/TCIA.2016.7O02S9CY; R. S. Lee et al.: A curated mammography data set for use in "
        "computer-aided detection and diagnosis research. Scientific Data 4:170177, 2017."
    ),
    url="https://www.cancerimagingarchive.net/collection/cbis-ddsm/",
    labels=(MASS, CALCIFICATION),
    recognise=_recognise,
    read=_read,
    parts=("both", "masses", "calcifications"),
    names=r"(?:Mass|Calc)-(?:Training|Test)_P_\d{5}|(?<![A-Za-z0-9])(?:P_)?\d{5}_(?:LEFT|RIGHT)_(?:CC|MLO)",
)


SEVERAL = "several"
"""The value where the abnormalities of one image differ: the tables do not say which box is which."""

_PATIENT, _SIDE, _VIEW = "patient_id", "left or right breast", "image view"
_ATTRIBUTES = {  # the mass and the calcification tables differ in one name
    "breast_density": "density",
    "breast density": "density",
    "mass shape": "shape",
    "mass margins": "margins",
    "calc type": "calcification_type",
    "calc distribution": "calcification_distribution",
    "assessment": "assessment",
    "pathology": "pathology",
    "subtlety": "subtlety",
}
_Key = tuple[str, Laterality, View]


@dataclass(frozen=True, slots=True)
class CaseTables:
    """Attributes by patient, side and view."""

    attributes: dict[_Key, dict[str, str]]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Self:
        """Read case tables; of several rows for one image, values that differ become ``several``.

        Raises
        ------
        DatasetError
            If one cannot be read or is no such table.
        """
        found: dict[_Key, dict[str, str]] = {}
        for path in paths:
            for key, row in _rows(path):
                known = found.setdefault(key, {})
                for attribute, value in row.items():
                    known[attribute] = value if known.get(attribute, value) == value else SEVERAL
        return cls(found)

    def of(self, identity: ImageIdentity) -> dict[str, str]:
        """What they say of an image; empty where they say nothing."""
        if identity.laterality is None or identity.view is None:
            return {}
        return self.attributes.get((_patient(identity.patient), identity.laterality, identity.view), {})


def _rows(path: Path) -> list[tuple[_Key, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = set(reader.fieldnames or ())
            if missing := {_PATIENT, _SIDE, _VIEW} - names:
                raise DatasetError(f"{path} is not a CBIS-DDSM case table: it has no column {sorted(missing)[0]!r}.")
            return [_row(path, reader.line_num, row) for row in reader]
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise DatasetError(f"{path} is not a CSV file.") from None


def _row(path: Path, line: int, row: dict[str, str | None]) -> tuple[_Key, dict[str, str]]:
    side, view = laterality_of(row[_SIDE]), view_of(row[_VIEW])
    if side is None or view is None or not row[_PATIENT]:
        raise DatasetError(f"{path}: the row that ends in line {line} names no patient, side and view.")
    values = {name: (row.get(column) or "").strip() for column, name in _ATTRIBUTES.items() if column in row}
    return (_patient(row[_PATIENT] or ""), side, view), {name: value for name, value in values.items() if value}


def _patient(name: str) -> str:
    return name.strip().removeprefix("P_")
