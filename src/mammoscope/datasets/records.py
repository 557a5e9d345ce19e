"""What an importer hands over: images with their boxes, in the words of every collection.

A data set's folder as imported images again, to make another of them without losing what it says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from mammoscope.datasets.coco import CocoAnnotation, read_coco
from mammoscope.datasets.dataset import ANNOTATIONS, FOLDS, SPLITS, AnnotatedDataset, AnnotatedImage, load_dataset
from mammoscope.datasets.files import read_json
from mammoscope.datasets.review_log import ReviewEvent, ReviewState, read_events
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in pixels of the image file, as `Box` counts them; three or more."""


@dataclass(frozen=True, slots=True)
class ImportedBox:
    """One marked lesion.

    Parameters
    ----------
    label
        Its class, for example ``"Mass"``.
    attributes
        What was said of it: ``{"pathology": "MALIGNANT", "birads": "4", "margins": "SPICULATED"}``. Texts, numbers and
        truth values.
    polygons
        Its outline, where there is one; the box is given all the same.
    crowd
        A region that is neither a lesion to be found nor a place where a finding is wrong (COCO's ``iscrowd``).
    id
        Its COCO id; ``None`` to count.
    facts
        Further keys of its COCO entry, kept as they are.
    """

    box: Box
    label: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    polygons: tuple[Polygon, ...] = ()
    crowd: bool = False
    id: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.label:
            raise ValueError("a box needs a label")
        if any(len(polygon) < 3 for polygon in self.polygons):
            raise ValueError("a polygon needs three corners")

    @classmethod
    def around(cls, polygon: Polygon, label: str, **more: Any) -> "ImportedBox":
        """The box around a polygon.

        Raises
        ------
        ValueError
            If the polygon has fewer than three corners or no area.
        """
        xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
        if not xs:
            raise ValueError("a polygon needs three corners")
        return cls(Box(min(xs), min(ys), max(xs), max(ys)), label, polygons=(polygon,), **more)


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """One mammogram of a collection with what the collection says about it.

    Parameters
    ----------
    path
        Where its file lies.
    rows, columns
        Size of the file's image in pixels.
    patient
        Whose it is; never guessed.
    file_name
        What it is called within the data set's ``images/``, with ``/`` between folders; ``None`` for the file's own
        name, which must then be the only one of that name.
    study
        The study or examination it belongs to.
    scanner
        Maker and model, for example ``"HOLOGIC Selenia Dimensions"``; or ``"film"`` and the digitiser.
    spacing_mm
        Distance between pixel centres, the same down and across.
    density
        BI-RADS breast density from 1 (a, almost entirely fat) to 4 (d, extremely dense).
    pathology
        The worst finding proven in it, in the collection's words.
    split
        ``train``, ``val`` or ``test`` where the collection came with splits.
    attributes
        What else was said of the image: texts, numbers, truth values.
    origin
        Where it came from: file name in the collection, UIDs, which rows of which table.
    review
        ``None`` for annotated; say `ReviewState.UNANNOTATED` where nobody drew boxes.
    id
        Its COCO id; ``None`` to count.
    facts
        Further keys of its COCO entry, kept as they are.
    """

    path: Path
    rows: int
    columns: int
    patient: str
    file_name: str | None = None
    study: str | None = None
    laterality: Laterality | None = None
    view: View | None = None
    scanner: str | None = None
    spacing_mm: float | None = None
    density: int | None = None
    pathology: str | None = None
    split: str | None = None
    fold: int | None = None
    boxes: tuple[ImportedBox, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    review: ReviewState | None = None
    id: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"an image has rows and columns, not {self.rows} x {self.columns}")
        if not self.patient.strip():
            raise ValueError("an image needs a patient")
        if self.density is not None and self.density not in (1, 2, 3, 4):
            raise ValueError(f"a density is 1 to 4, not {self.density!r}")
        if self.spacing_mm is not None and not (math.isfinite(self.spacing_mm) and self.spacing_mm > 0):
            raise ValueError(f"a spacing is a positive length, not {self.spacing_mm!r}")

    @property
    def name(self) -> str:
        """Its name within the data set's ``images/``."""
        return str(PurePosixPath(self.file_name)) if self.file_name else self.path.name


@dataclass(frozen=True, slots=True)
class FolderContent:
    """Everything that a data set's folder says.

    Parameters
    ----------
    info
        The COCO file's ``info``.
    events
        The log of its review.
    split_lock, fold_lock
        The hash that locks its splits and folds, or ``None``.
    """

    folder: Path
    dataset: AnnotatedDataset
    images: tuple[ImportedImage, ...]
    info: Mapping[str, Any]
    events: tuple[ReviewEvent, ...]
    split_lock: str | None
    fold_lock: str | None

    @property
    def name(self) -> str:
        """What the collection is called."""
        return str(self.info.get("description") or self.dataset.name)


def read_content(folder: Path) -> FolderContent:
    """Read a data set's folder whole.

    Raises
    ------
    DatasetError
        If it cannot be loaded (see `load_dataset`).
    """
    folder = Path(folder)
    dataset = load_dataset(folder)
    document = read_coco(folder / ANNOTATIONS)
    annotations = {image.id: image.annotations for image in document.images}
    info = document.facts.get("info")
    return FolderContent(
        folder=folder,
        dataset=dataset,
        images=tuple(_imported(image, annotations[image.id]) for image in dataset),
        info=info if isinstance(info, dict) else {},
        events=read_events(folder),
        split_lock=_lock(folder / SPLITS),
        fold_lock=_lock(folder / FOLDS),
    )


def _lock(path: Path) -> str | None:
    return str(read_json(path).get("hash")) if path.is_file() else None


def _imported(image: AnnotatedImage, annotations: Sequence[CocoAnnotation]) -> ImportedImage:
    return ImportedImage(
        path=image.path, rows=image.rows, columns=image.columns, patient=image.patient,
        file_name=str(image.facts.get("file_name")), laterality=image.laterality, view=image.view, split=image.split,
        fold=image.fold, boxes=tuple(_imported_box(annotation) for annotation in annotations), id=image.id,
        facts={key: value for key, value in image.facts.items() if key != "fold"},
    )  # fmt: skip


def _imported_box(annotation: CocoAnnotation) -> ImportedBox:
    polygons = polygons_of(annotation.facts.get("segmentation"))
    return ImportedBox(
        annotation.box, annotation.label, polygons=polygons, crowd=annotation.crowd, id=annotation.id,
        facts=annotation.facts,
    )  # fmt: skip


def polygons_of(segmentation: object) -> tuple[Polygon, ...]:
    """The polygons of a COCO ``segmentation``; none of run lengths or of what is no polygon."""
    if not isinstance(segmentation, list):
        return ()
    flat = [
        corners
        for corners in segmentation
        if isinstance(corners, list)
        and len(corners) >= 6
        and len(corners) % 2 == 0
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in corners)
    ]
    return tuple(tuple((float(x), float(y)) for x, y in list(pairwise(corners))[::2]) for corners in flat)
