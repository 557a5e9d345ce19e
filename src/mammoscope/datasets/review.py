"""Reviewing a data set: giving images a state, changing boxes, and who did what to a box."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoscope.datasets.coco import CocoAnnotation, CocoImage, read_coco
from mammoscope.datasets.dataset import ANNOTATIONS, AnnotatedImage, read_folder
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import read_json, write_json
from mammoscope.datasets.index import refresh_index
from mammoscope.datasets.review_log import (
    ReviewEvent,
    ReviewState,
    append_events,
    boxes_hash,
    now,
    read_events,
)
from mammoscope.findings import Box

_TOLERANCE_PX = 0.005


@dataclass(frozen=True, slots=True)
class ReviewedBox:
    """A box as a reviewer leaves it: ``id`` is its COCO annotation id, or ``None`` for a new one."""

    box: Box
    label: str
    id: int | None = None


def set_review(
    folder: Path, file_names: Sequence[str], state: ReviewState, by: str, note: str | None = None
) -> tuple[AnnotatedImage, ...]:
    """Give images a state, and return them.

    A state counts for the boxes that the image has now: an image that was validated is merely annotated again once its
    boxes are others.

    Parameters
    ----------
    file_names
        The images, by their names within ``images/``.
    by
        Who says so.

    Raises
    ------
    DatasetError
        If an image is not there, nobody is named, or the log cannot be written.
    """
    folder, by = Path(folder), by.strip()
    if not by:
        raise DatasetError("a review needs the name of who made it.")
    by_name = {str(image.facts.get("file_name")): image for image in read_folder(folder)}
    if unknown := [name for name in file_names if name not in by_name]:
        raise DatasetError(f"{folder} has no image {unknown[0]}; 'mammoscope dataset review show' lists its images.")
    at = now()
    chosen = [by_name[name] for name in dict.fromkeys(file_names)]
    append_events(
        folder,
        [
            ReviewEvent(
                at, by, image.id, str(image.facts.get("file_name")), state=state, note=note,
                boxes_hash=boxes_hash(image.boxes, image.labels, image.crowds),
            )
            for image in chosen
        ],
    )  # fmt: skip
    dataset = read_folder(folder)
    refresh_index(folder, dataset)
    ids = {image.id for image in chosen}
    return tuple(image for image in dataset if image.id in ids)


def change_boxes(folder: Path, file_name: str, boxes: Sequence[ReviewedBox], by: str) -> tuple[ReviewEvent, ...]:
    """Replace the boxes of an image, log what became of each, and return that.

    Boxes keep their COCO ids; those that are not named are removed. Crowd regions stay.

    Raises
    ------
    DatasetError
        If the image, a box's id or a label is not there, a box lies outside its image, or a file cannot be written.
    """
    folder, by = Path(folder), by.strip()
    if not by:
        raise DatasetError("a review needs the name of who made it.")
    path = folder / ANNOTATIONS
    document = read_coco(path)
    image = next((image for image in document.images if image.file_name == file_name), None)
    if image is None:
        raise DatasetError(f"{folder} has no image {file_name}.")
    old = {annotation.id: annotation for annotation in image.annotations if not annotation.crowd}
    first_new = max((a.id for i in document.images for a in i.annotations), default=0) + 1
    numbered = _numbered(boxes, old, first_new, file_name)
    category_ids = document.category_ids
    for box in numbered:
        _check(image, box, category_ids, folder)
    events = _events(image, old, numbered, by)
    if not events:
        return ()
    content = read_json(path)
    theirs = {annotation.id for annotation in old.values()}
    content["annotations"] = [entry for entry in content["annotations"] if entry["id"] not in theirs] + [
        _entry(image, old.get(box.id or 0), box, category_ids) for box in numbered
    ]
    append_events(folder, events)  # first: a change that is not in the log must not be
    try:
        write_json(path, content)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror or error}.") from None
    refresh_index(folder, read_folder(folder))
    return events


def history_of(folder: Path, file_name: str) -> tuple[ReviewEvent, ...]:
    """What was done to an image and its boxes, the oldest first.

    Raises
    ------
    DatasetError
        If the log is damaged.
    """
    return tuple(event for event in read_events(Path(folder)) if event.file_name == file_name)


def _numbered(
    boxes: Sequence[ReviewedBox], old: dict[int, CocoAnnotation], first_new: int, file_name: str
) -> list[ReviewedBox]:
    numbered, given = [], set()
    for box in boxes:
        if box.id is not None and (box.id not in old or box.id in given):
            raise DatasetError(f"the image {file_name} has no box {box.id}, or it was named twice.")
        given.add(box.id)
        if box.id is None:
            numbered.append(ReviewedBox(box.box, box.label, first_new))
            first_new += 1
        else:
            numbered.append(box)
    return numbered


def _check(image: CocoImage, box: ReviewedBox, category_ids: dict[str, int], folder: Path) -> None:
    if box.label not in category_ids:
        raise DatasetError(f"{folder} has no label {box.label!r}; it has {', '.join(sorted(category_ids))}.")
    if image.rows is None or image.columns is None or box.box.clipped(image.rows, image.columns) != box.box:
        raise DatasetError(f"the box {box.box.as_tuple()} does not lie within the image {image.file_name}.")


def _events(
    image: CocoImage, old: dict[int, CocoAnnotation], new: Sequence[ReviewedBox], by: str
) -> tuple[ReviewEvent, ...]:
    at, events = now(), []

    def event(box: int | None, change: str, before: Any, after: Any) -> None:
        events.append(ReviewEvent(at, by, image.id, image.file_name, box=box, change=change,
                                  before=before and _told(before.box, before.label),
                                  after=after and _told(after.box, after.label)))  # fmt: skip

    for box in new:
        before = old.get(box.id or 0)
        if before is None:
            event(box.id, "added", None, box)
        elif not _same_place(before.box, box.box):
            event(box.id, "moved", before, box)
        elif before.label != box.label:
            event(box.id, "relabelled", before, box)
    kept = {box.id for box in new}
    for box_id, before in old.items():
        if box_id not in kept:
            event(box_id, "removed", before, None)
    return tuple(events)


def _same_place(one: Box, other: Box) -> bool:
    return all(abs(a - b) <= _TOLERANCE_PX for a, b in zip(one.as_tuple(), other.as_tuple(), strict=True))


def _told(box: Box, label: str) -> dict[str, Any]:
    return {"bbox": list(box.as_xywh()), "label": label}


def _entry(
    image: CocoImage, before: CocoAnnotation | None, box: ReviewedBox, category_ids: dict[str, int]
) -> dict[str, Any]:
    facts = dict(before.facts) if before else {}
    if before is None or not _same_place(before.box, box.box):
        facts.pop("segmentation", None)  # the outline of another place
    return {
        **facts,
        "id": box.id,
        "image_id": image.id,
        "category_id": category_ids[box.label],
        "bbox": list(box.box.as_xywh()),
        "area": box.box.area,
        "iscrowd": 0,
    }
