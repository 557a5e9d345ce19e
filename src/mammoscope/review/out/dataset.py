"""What readers came to as a data set's folder, which ``mammoscope dataset`` and ``mammoscope train`` take as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mammoscope.datasets import AnnotatedDataset, AnnotatedImage, ImportedBox, ImportedImage, ReviewState, write_dataset
from mammoscope.datasets.dataset import HARD_NEGATIVES
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.datasets.review_log import ReviewEvent, append_events, boxes_hash, now
from mammoscope.datasets.writer import WrittenDataset
from mammoscope.imaging import Laterality, View
from mammoscope.results import CODED_CLASSES
from mammoscope.review.errors import ReviewError
from mammoscope.review.store import ImageRow, Mark, Progress, ReviewStore, StudyRow, Truth, Verdict, lesions
from mammoscope.review.wording import counted


@dataclass(frozen=True, slots=True)
class ExportedDataset:
    """What was written.

    Parameters
    ----------
    deleted, not_shown
        Images that were read and are not in it: their files are no longer kept, or could not be shown to a reader.
    """

    out: Path
    images: int
    validated: int
    disputed: int
    boxes: int
    hard_negatives: int
    deleted: int = 0
    not_shown: int = 0

    def __str__(self) -> str:
        """One sentence or two."""
        rejected = counted(self.hard_negatives, "rejected box", "rejected boxes")
        said = (
            f"Wrote {self.out}: {counted(self.images, 'image')}, {self.validated} of them validated and {self.disputed}"
            f" disputed, {counted(self.boxes, 'box', 'boxes')}, {rejected} as hard negatives."
        )
        if self.deleted:
            said += f" Left out, as no longer kept here: {counted(self.deleted, 'image')}."
        if self.not_shown:
            said += f" Left out, as not readable: {counted(self.not_shown, 'image')}."
        return said


@dataclass(frozen=True, slots=True)
class _Image:
    name: str
    state: ReviewState | None
    readers: tuple[str, ...]
    imported: ImportedImage
    rejected: int


def export_dataset(
    store: ReviewStore, dataset: AnnotatedDataset, out: Path, *, overwrite: bool = False
) -> ExportedDataset:
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
    overwrite
        Replace ``out`` if it is a data set's folder.

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

    written = write_dataset(
        [image.imported for image in images],
        out,
        name=f"{dataset.name}, read",
        labels=dataset.labels,
        finish=partial(_note_states, images),
        overwrite=overwrite,
    )
    return _exported(out, images, written)


def export_read(store: ReviewStore, out: Path, *, name: str, overwrite: bool = False) -> ExportedDataset:
    """Write what was read beside a node as a data set: the images of studies that are read to their end or disputed.

    The images are hard-linked where that can be, so that the node may delete its own when their time is over; nothing
    in them is changed, the patient's name included (``mammoscope dataset deidentify``). What the model proposed and no
    reader accepted is no annotation: a disputed image has no box.

    Parameters
    ----------
    store
        Of the reading room beside the node.
    out
        The folder to make.
    name
        What the data set is called.
    overwrite
        Replace ``out`` if it is a data set's folder.

    Raises
    ------
    ReviewError
        If nothing was read to its end, or no image of it is kept.
    DatasetError
        If the folder is there, or cannot be written.
    """
    images: list[_Image] = []
    deleted = not_shown = 0
    for row in store.finished(with_disputed=True):
        truth = store.truth(row.id)
        for there in store.images(row.id):
            marks = truth.marks.get(there.id, ())
            if not there.path.is_file():
                deleted += 1
            elif there.rows is None or there.columns is None or (there.reason and not lesions(marks)):
                not_shown += 1
            else:
                images.append(_image_of_node(len(images) + 1, row, there, truth, marks))
    if not any(image.state is ReviewState.VALIDATED for image in images):
        kept = " whose images are still kept" if deleted else ""
        raise ReviewError(f"no study{kept} was read to its end: read one, then export.")
    used = {box.label for image in images for box in image.imported.boxes}
    written = write_dataset(
        [image.imported for image in images],
        out,
        name=name,
        labels=[label for label in CODED_CLASSES if label in used] or ["Mass"],
        finish=partial(_note_states, images),
        overwrite=overwrite,
    )
    return replace(_exported(out, images, written), deleted=deleted, not_shown=not_shown)


def _note_states(images: list[_Image], folder: Path) -> None:
    append_events(folder, [_event(number, image) for number, image in _numbered(images)])


def _exported(out: Path, images: list[_Image], written: WrittenDataset) -> ExportedDataset:
    states = [image.state for image in images]
    return ExportedDataset(
        out,
        written.images,
        states.count(ReviewState.VALIDATED),
        states.count(ReviewState.DISPUTED),
        written.boxes,
        sum(image.rejected for image in images),
    )


def _image_of_node(number: int, study: StudyRow, image: ImageRow, truth: Truth, marks: tuple[Mark, ...]) -> _Image:
    rejected = [mark for mark in marks if mark.verdict is Verdict.REJECTED]
    state = ReviewState.VALIDATED if truth.readers else ReviewState.DISPUTED
    boxes = tuple(_box(mark) for mark in lesions(marks))
    imported = ImportedImage(
        image.path, image.rows or 0, image.columns or 0, study.patient, ImageMarks(boxes, Silence.NEGATIVE),
        file_name=f"{study.key}/{image.key}{image.path.suffix}", study=study.key,
        laterality=Laterality(image.laterality) if image.laterality else None,
        view=View(image.view) if image.view else None, scanner=study.scanner or None,
        attributes={HARD_NEGATIVES: _as_negatives(rejected)} if truth.readers else {}, id=number,
    )  # fmt: skip
    return _Image(imported.name, state, truth.readers, imported, len(rejected))


def _as_negatives(rejected: Sequence[Mark]) -> list[dict[str, Any]]:
    return [
        {"bbox": [round(v, 2) for v in mark.box.as_xywh()], "label": mark.label, "score": mark.score}
        for mark in rejected
    ]


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
        boxes = tuple(_box(mark) for mark in lesions(marks))
        attributes[HARD_NEGATIVES] = _as_negatives(rejected)
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
