"""What an importer hands over: images with their boxes, in the words of every collection.

A data set's folder as imported images again, to make another of them without losing what it says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mammoscope.datasets.coco import CocoAnnotation, polygons_of, read_coco
from mammoscope.datasets.dataset import ANNOTATIONS, FOLDS, SPLITS, AnnotatedDataset, AnnotatedImage, load_dataset
from mammoscope.datasets.files import read_json
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, LeftMark, Silence
from mammoscope.datasets.review_log import ReviewEvent, ReviewState, read_events
from mammoscope.imaging import Laterality, View


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
    marks
        Every mark that the collection makes on it (see `ImageMarks`).
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
    id
        Its COCO id; ``None`` to count.
    facts
        Further keys of its COCO entry, kept as they are.
    """

    path: Path
    rows: int
    columns: int
    patient: str
    marks: ImageMarks
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
    attributes: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
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
    def boxes(self) -> tuple[ImportedBox, ...]:
        """The marks that were taken."""
        return self.marks.boxes

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
        marks=_marks(image, annotations), file_name=str(image.facts.get("file_name")), laterality=image.laterality,
        view=image.view, split=image.split,
        fold=image.fold, id=image.id,
        facts={key: value for key, value in image.facts.items() if key != "fold"},
    )  # fmt: skip


def _marks(image: AnnotatedImage, annotations: Sequence[CocoAnnotation]) -> ImageMarks:
    """What the folder keeps of an image's account; its state stands, whatever becomes of its boxes."""
    kept = image.facts.get("marks")
    stated = image.facts.get("review")
    left = {
        kind: tuple(LeftMark(str(why), image.name) for why, count in reasons.items() for _ in range(int(count)))
        for kind, reasons in (kept if isinstance(kept, dict) else {}).items()
        if isinstance(reasons, dict)
    }
    return ImageMarks(
        tuple(_imported_box(annotation) for annotation in annotations), Silence.NEGATIVE, left.get("passed_over", ()),
        left.get("unknown", ()), left.get("not_outlined", ()),
        stated=ReviewState(stated) if stated in list(ReviewState) else ReviewState.ANNOTATED,
    )  # fmt: skip


def _imported_box(annotation: CocoAnnotation) -> ImportedBox:
    polygons = polygons_of(annotation.facts.get("segmentation"))
    return ImportedBox(
        annotation.box, annotation.label, polygons=polygons, crowd=annotation.crowd, id=annotation.id,
        facts=annotation.facts,
    )  # fmt: skip
