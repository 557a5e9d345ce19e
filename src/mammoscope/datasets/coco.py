"""COCO annotation files, read strictly: what is wrong is said with the file and the id, never guessed around.

The format: https://cocodataset.org/#format-data, object detection.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import read_json
from mammoscope.findings import Box


@dataclass(frozen=True, slots=True)
class CocoAnnotation:
    """One box with its label; ``facts`` is the entry as it stands in the file."""

    id: int
    category_id: int
    label: str
    box: Box
    crowd: bool
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image entry and its annotations, in the file's order; the size is ``None`` where the file is silent."""

    id: int
    file_name: str
    rows: int | None
    columns: int | None
    annotations: tuple[CocoAnnotation, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CocoDocument:
    """A COCO annotation file; ``facts`` is the whole document as it stands."""

    path: Path
    images: tuple[CocoImage, ...]
    categories: Mapping[int, str]
    facts: Mapping[str, Any]

    @property
    def category_ids(self) -> dict[str, int]:
        """Category id by label; of two categories with one name, the one that annotations use first."""
        used = [(a.label, a.category_id) for image in self.images for a in image.annotations]
        ids: dict[str, int] = {}
        for label, category_id in used + [(label, category_id) for category_id, label in self.categories.items()]:
            ids.setdefault(label, category_id)
        return ids


def read_coco(path: Path) -> CocoDocument:
    """Read and check a COCO annotation file.

    Raises
    ------
    DatasetError
        If it is not COCO detection annotations: invalid JSON, no images, double ids, an annotation of an unknown image
        or category, a box that is not four finite numbers with an area, a file name that leaves the images' folder.
    """
    facts = read_json(path)
    if not isinstance(facts, dict) or not all(isinstance(facts.get(key), list) for key in ("images", "annotations")):
        raise DatasetError(f"{path} is not a COCO file: it needs the lists 'images' and 'annotations'.")
    if not facts["images"]:
        raise DatasetError(f"{path} holds no images.")
    categories = _categories(path, facts)
    annotations = _annotations(path, facts["annotations"], categories)
    images = tuple(_images(path, facts["images"], annotations))
    known = {image.id for image in images}
    for image_id, orphans in annotations.items():
        if image_id not in known:
            raise DatasetError(f"{path}: annotation {orphans[0].id} belongs to image {image_id}, which is not there.")
    return CocoDocument(path, images, categories, facts)


def _categories(path: Path, facts: Mapping[str, Any]) -> dict[int, str]:
    entries = facts.get("categories")
    if not isinstance(entries, list):
        raise DatasetError(f"{path} is not a COCO file: it needs the list 'categories'.")
    categories: dict[int, str] = {}
    for category_id, entry in _with_ids(path, "category", entries):
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{path}: category {category_id} has no name.")
        categories[category_id] = name
    return categories


def _annotations(path: Path, entries: Iterable[Any], categories: Mapping[int, str]) -> dict[int, list[CocoAnnotation]]:
    by_image: dict[int, list[CocoAnnotation]] = {}
    for annotation_id, entry in _with_ids(path, "annotation", entries):
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        if not _is_whole(image_id):
            raise DatasetError(f"{path}: annotation {annotation_id} has no image_id (a whole number).")
        if not _is_whole(category_id) or category_id not in categories:
            raise DatasetError(
                f"{path}: annotation {annotation_id} has the category {category_id!r}, which is not there."
            )
        by_image.setdefault(image_id, []).append(
            CocoAnnotation(
                id=annotation_id,
                category_id=category_id,
                label=categories[category_id],
                box=_box(path, annotation_id, entry.get("bbox")),
                crowd=bool(entry.get("iscrowd", 0)),
                facts=entry,
            )
        )
    return by_image


def _box(path: Path, annotation_id: int, bbox: object) -> Box:
    if (
        not isinstance(bbox, list)
        or len(bbox) != 4
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in bbox)
    ):
        raise DatasetError(
            f"{path}: annotation {annotation_id} needs a bbox of four numbers [x, y, w, h], not {bbox!r}."
        )
    if bbox[2] <= 0 or bbox[3] <= 0:
        raise DatasetError(f"{path}: annotation {annotation_id} has a box without area, {bbox!r}: mend or remove it.")
    try:
        return Box.from_xywh(*(float(v) for v in bbox))
    except (ValueError, OverflowError):  # a size lost beside a huge offset
        raise DatasetError(f"{path}: annotation {annotation_id} has an impossible box, {bbox!r}.") from None


def _images(path: Path, entries: Iterable[Any], annotations: Mapping[int, list[CocoAnnotation]]) -> Iterator[CocoImage]:
    owner: dict[str, int] = {}
    for image_id, entry in _with_ids(path, "image", entries):
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{path}: image {image_id} has no file_name.")
        inner = PurePosixPath(name)
        if inner.is_absolute() or ".." in inner.parts or "\0" in name:
            raise DatasetError(
                f"{path}: image {image_id} has the file_name {name!r}; it must be relative to the images' folder."
            )
        if str(inner) in owner:
            raise DatasetError(f"{path}: images {owner[str(inner)]} and {image_id} have the same file_name, {name}.")
        owner[str(inner)] = image_id
        rows, columns = (_side(path, image_id, key, entry.get(key)) for key in ("height", "width"))
        yield CocoImage(image_id, str(inner), rows, columns, tuple(annotations.get(image_id, ())), entry)


def _side(path: Path, image_id: int, key: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0 or value != int(value):
        raise DatasetError(f"{path}: image {image_id} has the {key} {value!r}, which is not a whole number of pixels.")
    return int(value)


def _with_ids(path: Path, what: str, entries: Iterable[Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    seen: set[int] = set()
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or not _is_whole(entry.get("id")):
            raise DatasetError(f"{path}: the {what} at position {position} has no id (a whole number).")
        if entry["id"] in seen:
            raise DatasetError(f"{path}: two entries are called {what} {entry['id']}.")
        seen.add(entry["id"])
        yield entry["id"], entry


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
