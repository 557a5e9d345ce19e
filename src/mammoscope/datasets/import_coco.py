"""Importing a collection: checked, made whole, and put into one folder that any COCO tool can read.

Undoing a stretch: images that were forced into another shape get back the aspect of their native image.
"""

import csv
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from mammoscope import __version__
from mammoscope.datasets.coco import CocoAnnotation, CocoDocument, CocoImage
from mammoscope.datasets.collections.cbis_ddsm import CaseTables
from mammoscope.datasets.dataset import ANNOTATIONS, FORMAT, FORMAT_KEY, IMAGES, checked_size, clipped_box
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked, write_json
from mammoscope.datasets.formats.base import ImageFolder, subset_of
from mammoscope.datasets.formats.coco import FOLDER, SUBSET, coco_marks, crowds_told, names_of, read_coco_source
from mammoscope.datasets.formats.importing import kept_subsets
from mammoscope.datasets.identity import FileNamePattern, ImageIdentity
from mammoscope.datasets.image_marks import ImageMarks, MarkCounts, Silence
from mammoscope.datasets.index import refresh_index
from mammoscope.datasets.review_log import ReviewState
from mammoscope.datasets.writer import ImagesAs, bring_image, check_target, new_folder
from mammoscope.findings import Box

_COLUMNS = ("file_name", "est_native_rows", "est_native_cols", "est_aspect_cols_over_rows")


@dataclass(frozen=True, slots=True)
class NativeSize:
    """What is known of the image before it was stretched; ``median`` says that only its siblings are known."""

    aspect: float
    rows: int | None = None
    columns: int | None = None
    median: bool = False

    def unstretched(self, rows: int, columns: int) -> tuple[int, int]:
        """(rows, columns) with the native aspect in which neither dimension loses pixels."""
        if self.aspect < columns / rows:
            return round(columns / self.aspect), columns
        return rows, round(rows * self.aspect)

    def to_json(self) -> dict[str, Any]:
        """As kept per image in the data set."""
        return {
            "rows": self.rows,
            "columns": self.columns,
            "aspect_columns_over_rows": self.aspect,
            "aspect_from": "median of the other images" if self.median else "native size",
        }


def read_native_sizes(path: Path) -> dict[str, NativeSize]:
    """Native sizes by file name from a CSV file.

    Parameters
    ----------
    path
        With the columns ``file_name``, ``est_native_rows``, ``est_native_cols``, ``est_aspect_cols_over_rows``. Where
        the three figures are empty, the image gets the median aspect of the others.

    Raises
    ------
    DatasetError
        If a column is missing, a figure is not a positive number, a file is there twice, or no row holds a figure.
    """
    known: dict[str, NativeSize] = {}
    unknown: list[str] = []
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{path} has no column {missing[0]}; it needs {', '.join(_COLUMNS)}.")
            for row in reader:
                name = row["file_name"]
                if not name:
                    raise DatasetError(f"{path}, line {reader.line_num}: no file_name.")
                if name in known or name in unknown:
                    raise DatasetError(f"{path}, line {reader.line_num}: {name} is there twice.")
                figures = [row[column] for column in _COLUMNS[1:]]
                if any(figure and figure.strip() for figure in figures):
                    rows, columns, aspect = (_positive(path, reader.line_num, figure) for figure in figures)
                    known[name] = NativeSize(aspect, round(rows), round(columns))
                else:
                    unknown.append(name)
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist.") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise DatasetError(f"{path} is not a CSV file in UTF-8.") from None
    if not known:
        raise DatasetError(f"{path} holds no native size at all.")
    median = statistics.median(size.aspect for size in known.values())
    return known | {name: NativeSize(median, median=True) for name in unknown}


def unstretch(source: Path, target: Path, rows: int, columns: int) -> None:
    """Resize an image file to that size and write it as PNG.

    PNG, not JPEG: the stretched copies already went through JPEG once, and a second loss would add blocks of another
    size to the texture that a detector learns from. Depth (8 or 16 bits) is kept. Enlarging is bicubic, shrinking
    (which `NativeSize.unstretched` never asks for) by area.

    Raises
    ------
    DatasetError
        If the pixels cannot be decoded or written.
    """
    try:
        pixels = cv2.imdecode(np.fromfile(source, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DatasetError(f"{source} cannot be un-stretched: its pixels cannot be decoded.")
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels[:, :, :3], cv2.COLOR_BGR2GRAY)
    shrinks = rows < pixels.shape[0] or columns < pixels.shape[1]
    resized = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    _, encoded = cv2.imencode(".png", resized)
    target.write_bytes(encoded.tobytes())


def _positive(path: Path, line: int, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise DatasetError(f"{path}, line {line}: {text!r} is not a positive number (with a decimal point).")
    return value


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import brought in, and what it had to change."""

    images: int
    patients: int
    boxes: int
    crowds: int
    images_without_boxes: int
    clipped: int
    """Boxes that reached over the image's edge and were cut there."""
    unstretched: int
    median_aspects: int
    """Un-stretched images whose own native size is not known: they got the median aspect of the others."""
    median_aspect: float | None
    masks_dropped: int
    """Run-length masks of un-stretched images: only boxes and polygons are resized."""
    with_case: int
    """Images that the case tables say something of."""
    copied: int
    """Images copied because no hard link could be made, or because copies were asked for."""
    marks: MarkCounts
    """What became of every mark."""
    notes: tuple[str, ...] = ()
    """What else its reader has to know."""


@dataclass(frozen=True, slots=True)
class _PlannedImage:
    image: CocoImage
    source: Path
    target: str
    identity: ImageIdentity
    size: tuple[int, int]
    native: NativeSize | None
    boxes: tuple[tuple[CocoAnnotation, Box, bool], ...]
    case: dict[str, str]
    marks: ImageMarks
    split: str | None

    @property
    def new_size(self) -> tuple[int, int]:
        return self.size if self.native is None else self.native.unstretched(*self.size)


def import_coco(
    annotations: Path,
    images: Path,
    out: Path,
    *,
    native_sizes: Path | None = None,
    patient_pattern: str | None = None,
    case_tables: Sequence[Path] = (),
    name: str | None = None,
    licence: str | None = None,
    citation: str | None = None,
    copy: bool = False,
    overwrite: bool = False,
    silence: Silence | None = None,
    crowds_are_lesions: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Make a data set's folder from a COCO file and its images.

    Everything is checked before anything is written, and the folder appears whole or not at all.

    Parameters
    ----------
    annotations
        The COCO file.
    images
        Folder that its ``file_name`` entries are relative to.
    out
        The folder to make: ``annotations.json`` and ``images/``.
    native_sizes
        CSV of native sizes (see `read_native_sizes`) of images that were stretched into another shape: each is resized
        to its native aspect such that no dimension loses pixels, its boxes with it, and written as PNG.
    patient_pattern
        How file names hold the patient (see `FileNamePattern`); ``None`` for CBIS-DDSM's names.
    case_tables
        CBIS-DDSM's case tables (see `CaseTables`), whose density, pathology and so on become ``attributes`` of the
        images, found by patient, side and view.
    name, licence, citation
        What the collection is called, under which licence it may be used, what to cite; ``None`` for what the COCO file
        says of it, if anything.
    copy
        Copy images instead of hard-linking them. A linked image costs no space, and is the same file as its origin.
    overwrite
        Replace ``out`` if it is a data set's folder.
    silence
        What it means that the file names an image and marks nothing on it; ``None`` for a lesion-free image, except
        where the file does not even know its size.
    crowds_are_lesions
        Take crowd regions for lesions: CVAT writes every mask and ellipse as one.
    progress
        Called with (images done, images in all).

    Raises
    ------
    DatasetError
        If the annotations are not sound, an image is missing or not decodable, ``out`` is there, or cannot be written.
    PatientUnknownError
        If an image's patient is not known.
    """
    annotations, images, out = Path(annotations), Path(images), Path(out)
    check_target(out, overwrite)
    for given in (annotations, images):
        check_unpacked(given)
    document, folder_of_images = read_coco_source(annotations), ImageFolder(images)
    natives = None if native_sizes is None else read_native_sizes(Path(native_sizes))
    pattern = FileNamePattern.compile(patient_pattern)
    told = CaseTables.read([Path(path) for path in case_tables])
    plan = [
        _plan(
            document, image, folder_of_images, pattern, natives, native_sizes, told,
            coco_marks(document, image, silence, crowds_are_lesions=crowds_are_lesions),
        )
        for image in document.images
    ]  # fmt: skip
    _check_targets_differ(document, plan)
    plan, notes = _with_splits(plan)
    if crowds := crowds_told(document, crowds_are_lesions=crowds_are_lesions):
        notes = (crowds, *notes)
    with new_folder(out, overwrite=overwrite) as folder:
        stated = {"description": name, "licence": licence, "citation": citation}
        said = {key: value for key, value in stated.items() if value is not None}
        copied = _write(document, plan, said, folder, copy, progress)
    return _summary(plan, copied, notes)


def _with_splits(plan: list[_PlannedImage]) -> tuple[list[_PlannedImage], tuple[str, ...]]:
    """The splits that the entries state, else the parts that the images came in (see `kept_subsets`)."""
    if any(planned.image.facts.get("split") for planned in plan):
        return [replace(planned, split=planned.image.facts.get("split")) for planned in plan], ()
    splits, told = kept_subsets(
        [
            (planned.identity.patient,
             planned.image.facts.get(SUBSET) or subset_of(PurePosixPath(planned.target).with_suffix("").parts))
            for planned in plan
        ]
    )  # fmt: skip
    return [replace(planned, split=split) for planned, split in zip(plan, splits, strict=True)], told


def _plan(
    document: CocoDocument,
    image: CocoImage,
    images: ImageFolder,
    pattern: FileNamePattern,
    natives: dict[str, NativeSize] | None,
    native_sizes: Path | None,
    told: CaseTables,
    marks: ImageMarks,
) -> _PlannedImage:
    source = images.find(names_of(image), f"{document.path}, image {image.id}")
    identity = pattern.identify(images.name_of(source), image.facts)
    size = checked_size(document, image, source)
    boxes = tuple((a, *clipped_box(document, a.id, a.box, *size)) for a in image.annotations)
    native, target = None, images.name_of(source)
    if natives is not None:
        native = natives.get(image.file_name)
        if native is None:
            raise DatasetError(f"{native_sizes} has no row for image {image.id} of {document.path}, {image.file_name}.")
        target = str(PurePosixPath(target).with_suffix(".png"))
    return _PlannedImage(image, source, target, identity, size, native, boxes, told.of(identity), marks, None)


def _check_targets_differ(document: CocoDocument, plan: list[_PlannedImage]) -> None:
    owner: dict[str, int] = {}
    for planned in plan:
        other = owner.setdefault(planned.target, planned.image.id)
        if other != planned.image.id:
            raise DatasetError(
                f"{document.path}: images {other} and {planned.image.id} would both become {planned.target}."
            )


def _write(
    document: CocoDocument,
    plan: list[_PlannedImage],
    said: dict[str, str],
    folder: Path,
    copy: bool,
    progress: Callable[[int, int], None] | None,
) -> int:
    copied = 0
    for done, planned in enumerate(plan, start=1):
        target = folder / IMAGES / planned.target
        target.parent.mkdir(parents=True, exist_ok=True)
        if planned.native is not None:
            unstretch(planned.source, target, *planned.new_size)
        else:
            copied += bring_image(planned.source, target, ImagesAs.COPIED if copy else ImagesAs.LINKED)
        if progress:
            progress(done, len(plan))
    write_json(folder / ANNOTATIONS, _coco(document, plan, said))
    refresh_index(folder)
    return copied


def _coco(document: CocoDocument, plan: list[_PlannedImage], said: dict[str, str]) -> dict[str, Any]:
    info = document.facts.get("info")
    origin = {"annotations": document.path.name, "mammoscope": __version__}
    # pycocotools takes an annotation with the id 0 for none when it matches: such a file is numbered from 1
    shift = int(any(a.id == 0 for planned in plan for a, _, _ in planned.boxes))
    return {
        "info": {
            **(info if isinstance(info, dict) else {}),
            **said,
            "imported_from": origin,
            FORMAT_KEY: FORMAT,
            "marks": MarkCounts.of(planned.marks for planned in plan).to_json(),
        },
        **{key: value for key, value in document.facts.items() if key not in {"info", "images", "annotations"}},
        **({"licenses": [{"id": 1, "name": said["licence"]}]} if "licence" in said else {}),
        "images": [_coco_image(planned) for planned in plan],
        "annotations": [
            _coco_annotation(planned, annotation, box, shift, crowd=marked.crowd)
            for planned in plan
            for (annotation, box, _), marked in zip(planned.boxes, planned.marks.boxes, strict=True)
        ],
    }


def _coco_image(planned: _PlannedImage) -> dict[str, Any]:
    rows, columns = planned.new_size
    identity = planned.identity
    attributes = planned.image.facts.get("attributes")
    attributes = {**(attributes if isinstance(attributes, dict) else {}), **planned.case}
    state, left = planned.marks.state, planned.marks.to_json()
    return {
        **{key: value for key, value in planned.image.facts.items() if key not in {SUBSET, FOLDER}},
        **({"attributes": attributes} if attributes else {}),
        **({"review": str(state)} if state is not ReviewState.ANNOTATED else {}),
        **({"marks": left} if left else {}),
        "file_name": planned.target,
        "height": rows,
        "width": columns,
        "patient_id": identity.patient,
        "laterality": identity.laterality and str(identity.laterality),
        "view": identity.view and str(identity.view),
        "split": planned.split,
        "origin": {"file_name": planned.image.file_name, "height": planned.size[0], "width": planned.size[1]},
        "native_size": planned.native and planned.native.to_json(),
    }


def _coco_annotation(
    planned: _PlannedImage, annotation: CocoAnnotation, box: Box, shift: int, *, crowd: bool
) -> dict[str, Any]:
    across = planned.new_size[1] / planned.size[1]
    down = planned.new_size[0] / planned.size[0]
    scaled = Box(box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down)
    entry = {
        **annotation.facts,
        "id": annotation.id + shift,
        "bbox": list(scaled.as_xywh()),
        "area": scaled.area,
        "iscrowd": int(crowd),
    }
    segmentation = annotation.facts.get("segmentation")
    if planned.native is not None and segmentation:
        entry["segmentation"] = [
            [value * (down if i % 2 else across) for i, value in enumerate(polygon)]
            for polygon in _polygons(segmentation)
        ]
    return entry


def _polygons(segmentation: object) -> list[list[float]]:
    if not isinstance(segmentation, list):
        return []
    return [p for p in segmentation if isinstance(p, list) and all(isinstance(v, int | float) for v in p)]


def _summary(plan: list[_PlannedImage], copied: int, notes: tuple[str, ...]) -> ImportSummary:
    marks = [(a, cut, planned) for planned in plan for a, _, cut in planned.boxes]
    counts = MarkCounts.of(planned.marks for planned in plan)
    natives = [planned.native for planned in plan if planned.native]
    medians = [native.aspect for native in natives if native.median]
    return ImportSummary(
        images=len(plan),
        patients=len({planned.identity.patient for planned in plan}),
        boxes=counts.taken,
        crowds=counts.crowds,
        images_without_boxes=sum(not planned.marks.lesions for planned in plan),
        clipped=sum(cut for _, cut, _ in marks),
        unstretched=len(natives),
        median_aspects=len(medians),
        median_aspect=medians[0] if medians else None,
        masks_dropped=sum(isinstance(a.facts.get("segmentation"), dict) for a, _, p in marks if p.native is not None),
        with_case=sum(bool(planned.case) for planned in plan),
        copied=copied,
        marks=counts,
        notes=notes,
    )
