"""A data set's folder as imported images again, to make another of them without losing what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from mammoscope.datasets.coco import CocoAnnotation, read_coco
from mammoscope.datasets.dataset import ANNOTATIONS, FOLDS, SPLITS, AnnotatedDataset, AnnotatedImage, load_dataset
from mammoscope.datasets.files import read_json
from mammoscope.datasets.imported import ImportedBox, ImportedImage, Polygon
from mammoscope.datasets.review_state import ReviewEvent, read_events


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
