"""What readers came to as a data set's folder, which ``mammoscope dataset`` and ``mammoscope train`` take as it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoscope.datasets import AnnotatedDataset, AnnotatedImage, ImportedBox, ImportedImage, ReviewState, write_dataset
from mammoscope.datasets.dataset import HARD_NEGATIVES
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.datasets.review_log import ReviewEvent, append_events, boxes_hash, now
from mammoscope.review.errors import ReviewError
from mammoscope.review.store import Mark, Progress, ReviewStore, Truth, Verdict


@dataclass(frozen=True, slots=True)
class ExportedDataset:
    """What was written."""

    images: int
    validated: int
    disputed: int
    boxes: int
    hard_negatives: int


@dataclass(frozen=True, slots=True)
class _Image:
    name: str
    state: ReviewState | None
    readers: tuple[str, ...]
    imported: ImportedImage
    rejected: int


def export_dataset(store: ReviewStore, dataset: AnnotatedDataset, out: Path) -> ExportedDataset:
    """Write a data set with the readers' boxes.

    An image that was read to its end is validated and has the boxes that were accepted, with what was said of them; the
    rejected ones are its hard negatives. One that readers differ on is disputed and keeps the boxes that it came with,
    as does one that nobody read.

    Parameters
    ----------
    dataset
        What was read.
    out
        The folder to make.

    Raises
    ------
    ReviewError
        If nothing was read to its end.
    DatasetError
        If the folder is there, or cannot be written.
    """
    truths = _truths(store)
    images = [
        _image(image, *truths.get(str(image.facts.get("file_name", image.name)), (None, ()))) for image in dataset
    ]
    if not any(image.state is ReviewState.VALIDATED for image in images):
        raise ReviewError("no study was read to its end: read one, then export.")

    def note_states(folder: Path) -> None:
        append_events(folder, [_event(number, image) for number, image in _numbered(images)])

    written = write_dataset(
        [image.imported for image in images],
        out,
        name=f"{dataset.name}, read",
        labels=dataset.labels,
        finish=note_states,
    )
    states = [image.state for image in images]
    return ExportedDataset(
        written.images,
        states.count(ReviewState.VALIDATED),
        states.count(ReviewState.DISPUTED),
        written.boxes,
        sum(image.rejected for image in images),
    )


def _truths(store: ReviewStore) -> dict[str, tuple[Truth, tuple[Mark, ...]]]:
    found = {}
    for progress in (Progress.READ, Progress.SETTLED, Progress.DISPUTED):
        offset = 0
        while rows := store.worklist(progress=progress, offset=offset, limit=200).rows:
            offset += len(rows)
            for row in rows:
                truth = store.truth(row.id)
                for image in store.images(row.id):
                    found[image.key] = truth, truth.marks.get(image.id, ())
    return found


def _name(image: AnnotatedImage) -> str:
    return str(image.facts.get("file_name", image.name))


def _image(image: AnnotatedImage, truth: Truth | None, marks: tuple[Mark, ...]) -> _Image:
    state = None if truth is None else ReviewState.VALIDATED if truth.readers else ReviewState.DISPUTED
    facts = {key: value for key, value in image.facts.items() if key not in _WRITTEN_ANEW}
    attributes: dict[str, Any] = dict(image.facts.get("attributes") or {})
    rejected = [mark for mark in marks if mark.verdict is Verdict.REJECTED]
    if state is ReviewState.VALIDATED:
        facts.pop("marks", None)  # what an importer could not read of it counts no longer: somebody looked
        boxes = tuple(_box(mark) for mark in marks if mark.verdict is Verdict.ACCEPTED)
        attributes[HARD_NEGATIVES] = [
            {"bbox": [round(v, 2) for v in mark.box.as_xywh()], "label": mark.label, "score": mark.score}
            for mark in rejected
        ]
    else:
        boxes = tuple(ImportedBox(box, label) for box, label in zip(image.boxes, image.labels, strict=True))
    crowds = tuple(ImportedBox(box, image.labels[0] if image.labels else "Mass", crowd=True) for box in image.crowds)
    name = _name(image)
    imported = ImportedImage(
        image.path, image.rows, image.columns, image.patient,
        file_name=name, laterality=image.laterality, view=image.view,
        split=image.split, fold=image.fold, attributes=attributes, id=image.id, facts=facts,
        marks=ImageMarks(
            (*boxes, *crowds), Silence.NEGATIVE, stated=image.review if state is None else ReviewState.ANNOTATED
        ),
    )  # fmt: skip
    return _Image(name, state, truth.readers if truth else (), imported, len(rejected))


_WRITTEN_ANEW = frozenset(
    ("id", "file_name", "height", "width", "patient_id", "laterality", "view", "split", "fold", "attributes", "review")
)


def _box(mark: Mark) -> ImportedBox:
    return ImportedBox(mark.box, mark.label, attributes=dict(mark.details))


def _numbered(images: list[_Image]) -> list[tuple[int, _Image]]:
    return [(image.imported.id or 0, image) for image in images if image.state is not None]


def _event(number: int, image: _Image) -> ReviewEvent:
    boxes = [box for box in image.imported.boxes if not box.crowd]
    crowds = [box.box for box in image.imported.boxes if box.crowd]
    assert image.state is not None, "only images with a state have events"
    return ReviewEvent(
        now(), ", ".join(image.readers) or "readers", number, image.name, state=image.state,
        boxes_hash=boxes_hash([box.box for box in boxes], [box.label for box in boxes], crowds),
    )  # fmt: skip
