"""A data set's folder as an audit sees it: read leniently, since what is wrong in it is what is looked for."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from mammoscope.datasets.audit.measures import Measures
from mammoscope.datasets.coco import is_crowd
from mammoscope.datasets.dataset import ANNOTATIONS, IMAGES
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import read_json
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.review_log import ReviewEvent, ReviewState, latest_states, read_events, state_of
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

_FARTHEST = 1e9
"""Pixels; no box lies there."""


@dataclass(frozen=True, slots=True)
class AuditedBox:
    """An annotation as it stands: ``bbox`` is (x, y, width, height), which need not make a box."""

    id: int
    label: str
    bbox: tuple[float, float, float, float]
    crowd: bool
    segmentation: Any = None

    @property
    def box(self) -> Box | None:
        """The box, or ``None`` where it has no area."""
        x, y, width, height = self.bbox
        return Box(x, y, x + width, y + height) if x < x + width and y < y + height else None


@dataclass(frozen=True, slots=True)
class AuditedImage:
    """An image entry with its annotations, and what its pixels say.

    Parameters
    ----------
    rows, columns
        As the COCO file says; those of the file where it is silent.
    measures
        Of its file (see `Measures`).
    review
        How far its annotation is, by its entry and the log.
    """

    id: int
    file_name: str
    path: Path
    rows: int
    columns: int
    measures: Measures
    patient: str | None = None
    study: str | None = None
    laterality: Laterality | None = None
    view: View | None = None
    split: str | None = None
    fold: int | None = None
    spacing_mm: float | None = None
    boxes: tuple[AuditedBox, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    review: ReviewState = ReviewState.ANNOTATED

    @property
    def lesions(self) -> tuple[tuple[AuditedBox, Box], ...]:
        """The annotations of lesions that are boxes and lie in the image at least in part, cut at its edge."""
        inside = ((b, b.box.clipped(self.rows, self.columns)) for b in self.boxes if b.box is not None and not b.crowd)
        return tuple((annotation, box) for annotation, box in inside if box is not None)


@dataclass(frozen=True, slots=True)
class AuditedDataset:
    """A data set's folder, read and measured.

    Parameters
    ----------
    complaints
        What is wrong with the entries of the COCO file itself, as sentences with the image's name or ``None``.
    """

    folder: Path
    images: tuple[AuditedImage, ...]
    complaints: tuple[tuple[str, str | None], ...] = ()

    def __iter__(self) -> Iterator[AuditedImage]:
        return iter(self.images)

    @property
    def readable(self) -> tuple[AuditedImage, ...]:
        """The images whose files could be read."""
        return tuple(image for image in self.images if image.measures.unreadable is None)

    @property
    def showing(self) -> tuple[AuditedImage, ...]:
        """The images that show a breast as it should be: in a blank or a negative nothing else can be judged."""
        return tuple(i for i in self.readable if not i.measures.blank and not i.measures.negative)


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a COCO file that can be followed, and complaints about the others.

    Parameters
    ----------
    images
        Image entries by id; each has a ``file_name``.
    boxes
        Annotations by image id.
    """

    folder: Path
    images: Mapping[int, Mapping[str, Any]]
    boxes: Mapping[int, tuple[AuditedBox, ...]]
    complaints: tuple[tuple[str, str | None], ...]

    def path_of(self, image_id: int) -> Path:
        """Where the file of an image should lie."""
        return self.folder / IMAGES / str(self.images[image_id]["file_name"])


def read_entries(folder: Path) -> Entries:
    """Read the COCO file of a data set's folder, whatever is wrong with single entries.

    Raises
    ------
    DatasetError
        If it is not a data set's folder, or the file is not COCO at all.
    """
    path = folder / ANNOTATIONS
    if not path.is_file():
        raise DatasetError(
            f"{folder} is not a data set's folder: it has no {ANNOTATIONS}; make one with 'mammoscope dataset import'."
        )
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise DatasetError(f"{path} is not a COCO file: it needs the lists 'images' and 'annotations'.")
    complaints: list[tuple[str, str | None]] = []
    images = _image_entries(content["images"], complaints)
    boxes = _box_entries(content, images, complaints)
    return Entries(folder, images, {key: tuple(value) for key, value in boxes.items()}, tuple(complaints))


def audited(entries: Entries, measures: Mapping[int, Measures]) -> AuditedDataset:
    """The data set of entries and of the measures of their files, by image id."""
    reviewed = latest_states(read_events(entries.folder))
    images = (_audited(entries, image_id, measures[image_id], reviewed) for image_id in sorted(entries.images))
    return AuditedDataset(entries.folder, tuple(images), entries.complaints)


def _image_entries(listed: list[Any], complaints: list[tuple[str, str | None]]) -> dict[int, Mapping[str, Any]]:
    images: dict[int, Mapping[str, Any]] = {}
    names: set[str] = set()
    for position, entry in enumerate(listed):
        if not isinstance(entry, dict) or not _is_whole(entry.get("id")) or not _is_name(entry.get("file_name")):
            complaints.append((f"The image entry at position {position} has no id or no usable file_name.", None))
        elif entry["id"] in images or entry["file_name"] in names:
            complaints.append((f"Two image entries share the id {entry['id']} or the file.", entry["file_name"]))
        else:
            images[entry["id"]] = entry
            names.add(entry["file_name"])
    return images


def _box_entries(
    content: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]], complaints: list[tuple[str, str | None]]
) -> dict[int, list[AuditedBox]]:
    categories = content.get("categories")
    labels = {
        entry["id"]: entry["name"]
        for entry in (categories if isinstance(categories, list) else ())
        if isinstance(entry, dict) and _is_whole(entry.get("id")) and isinstance(entry.get("name"), str)
    }
    boxes: dict[int, list[AuditedBox]] = {}
    seen: set[int] = set()
    for position, entry in enumerate(content["annotations"]):
        wrong, name = _wrong_with(entry, images, labels, seen)
        if wrong:
            complaints.append((f"The annotation at position {position} {wrong}.", name))
            continue
        seen.add(entry["id"])
        x, y, width, height = (float(value) for value in entry["bbox"])
        boxes.setdefault(entry["image_id"], []).append(
            AuditedBox(
                entry["id"], labels[entry["category_id"]], (x, y, width, height), bool(is_crowd(entry.get("iscrowd"))),
                entry.get("segmentation"),
            )
        )  # fmt: skip
    return boxes


def _wrong_with(
    entry: Any, images: Mapping[int, Mapping[str, Any]], labels: Mapping[int, str], seen: set[int]
) -> tuple[str | None, str | None]:
    """(what is wrong with an annotation, the name of its image), each ``None`` where there is nothing to say."""
    if not isinstance(entry, dict) or not _is_whole(entry.get("id")):
        return "has no id", None
    owner = entry.get("image_id")
    if not _is_whole(owner) or owner not in images:
        return f"belongs to the image {owner!r}, which is not there", None
    name = str(images[owner]["file_name"])
    bbox = entry.get("bbox")
    if entry["id"] in seen:
        return f"has the id {entry['id']}, as another has", name
    if not _is_whole(entry.get("category_id")) or entry["category_id"] not in labels:
        return f"has the category {entry.get('category_id')!r}, which is not there", name
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(v) and abs(v) < _FARTHEST for v in bbox):
        return f"has no bbox of four numbers: {bbox!r}", name
    crowd = entry.get("iscrowd")
    return (f"has the iscrowd {crowd!r}, which is neither 0 nor 1" if is_crowd(crowd) is None else None), name


def _audited(
    entries: Entries, image_id: int, measures: Measures, reviewed: Mapping[tuple[int, str], ReviewEvent]
) -> AuditedImage:
    facts = entries.images[image_id]
    event = reviewed.get((image_id, str(facts["file_name"])))
    nested = facts.get("attributes")
    spacing = facts.get("spacing_mm", nested.get("spacing_mm") if isinstance(nested, dict) else None)
    fold = facts.get("fold")
    return AuditedImage(
        id=image_id,
        file_name=str(facts["file_name"]),
        path=entries.path_of(image_id),
        rows=_side(facts.get("height")) or measures.rows,
        columns=_side(facts.get("width")) or measures.columns,
        measures=measures,
        patient=_text(facts.get("patient_id")),
        study=_text(facts.get("study_id")),
        laterality=laterality_of(facts.get("laterality")),
        view=view_of(facts.get("view")),
        split=_text(facts.get("split")),
        fold=fold if _is_whole(fold) else None,
        spacing_mm=float(spacing) if _is_number(spacing) and spacing > 0 else measures.spacing_mm,
        boxes=entries.boxes.get(image_id, ()),
        facts=facts,
        review=state_of(facts.get("review"), event, event.boxes_hash or "" if event else ""),
    )


def _side(value: Any) -> int | None:
    return int(value) if _is_number(value) and value >= 1 else None


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_name(value: Any) -> TypeGuard[str]:
    """Whether it names a file that cannot lie outside the images' folder."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts
