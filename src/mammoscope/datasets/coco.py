"""COCO annotation files, read strictly: what is wrong is said with the file and the id, never guessed around.

The format: https://cocodataset.org/#format-data, object detection.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import read_json
from mammoscope.datasets.image_marks import LeftMark, Polygon
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
    """One image entry and its annotations, in the file's order; the size is ``None`` where the file is silent.

    ``left`` are annotations without an area, which only a file that is being imported may have.
    """

    id: int
    file_name: str
    rows: int | None
    columns: int | None
    annotations: tuple[CocoAnnotation, ...]
    facts: Mapping[str, Any]
    left: tuple[LeftMark, ...] = ()


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


def read_coco(path: Path, *, importing: bool = False) -> CocoDocument:
    """Read and check a COCO annotation file.

    Parameters
    ----------
    importing
        Whether another program wrote it, for a folder of its own: annotations without an area are passed over then, a
        box may be given by its outline alone, and file names may be paths of another machine, to be searched for.

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
    annotations, left = _annotations(path, facts["annotations"], categories, importing=importing)
    images = tuple(
        CocoImage(
            image_id, name, *_size(path, image_id, entry), tuple(annotations.get(image_id, ())), entry,
            tuple(left.get(image_id, ())),
        )
        for image_id, name, entry in _images(path, facts["images"], importing=importing)
    )  # fmt: skip
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


def _annotations(
    path: Path, entries: Iterable[Any], categories: Mapping[int, str], *, importing: bool
) -> tuple[dict[int, list[CocoAnnotation]], dict[int, list[LeftMark]]]:
    by_image: dict[int, list[CocoAnnotation]] = {}
    left: dict[int, list[LeftMark]] = {}
    for annotation_id, entry in _with_ids(path, "annotation", entries):
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        if not _is_whole(image_id):
            raise DatasetError(f"{path}: annotation {annotation_id} has no image_id (a whole number).")
        if not _is_whole(category_id) or category_id not in categories:
            raise DatasetError(
                f"{path}: annotation {annotation_id} has the category {category_id!r}, which is not there."
            )
        crowd = is_crowd(entry.get("iscrowd"))
        if crowd is None:
            raise DatasetError(
                f"{path}: annotation {annotation_id} has the iscrowd {entry['iscrowd']!r}, which is neither 0 nor 1."
            )
        bbox = entry.get("bbox")
        if importing and not bbox:
            bbox = _around(polygons_of(entry.get("segmentation")))
        if importing and _without_area(bbox):
            left.setdefault(image_id, []).append(LeftMark("a box without area", f"{path}, annotation {annotation_id}"))
            continue
        by_image.setdefault(image_id, []).append(
            CocoAnnotation(
                id=annotation_id,
                category_id=category_id,
                label=categories[category_id],
                box=_box(path, annotation_id, bbox),
                crowd=crowd,
                facts=entry,
            )
        )
    return by_image, left


_CROWDS = {
    **dict.fromkeys(("", "none", "0", "0.0", "false"), False), **dict.fromkeys(("1", "1.0", "true"), True),
}  # fmt: skip


def is_crowd(value: object) -> bool | None:
    """``iscrowd``, which some programs write as a text or a truth value; ``None`` where it is neither 0 nor 1."""
    return _CROWDS.get(str(value).strip().casefold())


def polygons_of(segmentation: object) -> tuple[Polygon, ...]:
    """The polygons of a COCO ``segmentation``; none of run lengths or of what is no polygon."""
    if not isinstance(segmentation, list):
        return ()
    flat = [
        corners
        for corners in segmentation
        if isinstance(corners, list) and len(corners) >= 6 and len(corners) % 2 == 0 and all(map(_is_number, corners))
    ]
    return tuple(tuple((float(x), float(y)) for x, y in list(pairwise(corners))[::2]) for corners in flat)


def _around(polygons: tuple[Polygon, ...]) -> list[float]:
    points = [point for polygon in polygons for point in polygon]
    if not points:
        return [0.0] * 4
    xs, ys = zip(*points, strict=True)
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _without_area(bbox: object) -> bool:
    return isinstance(bbox, list) and len(bbox) == 4 and all(map(_is_number, bbox)) and (bbox[2] <= 0 or bbox[3] <= 0)


def _box(path: Path, annotation_id: int, bbox: object) -> Box:
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise DatasetError(
            f"{path}: annotation {annotation_id} needs a bbox of four numbers [x, y, w, h], not {bbox!r}."
        )
    if bbox[2] <= 0 or bbox[3] <= 0:
        raise DatasetError(
            f"{path}: annotation {annotation_id} has a box without area, {bbox!r}: correct or remove it."
        )
    try:
        return Box.from_xywh(*(float(v) for v in bbox))
    except (ValueError, OverflowError):  # a size lost beside a huge offset
        raise DatasetError(f"{path}: annotation {annotation_id} has an impossible box, {bbox!r}.") from None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _images(path: Path, entries: Iterable[Any], *, importing: bool) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """(id, name, entry) of each image."""
    owner: dict[str, int] = {}
    for image_id, entry in _with_ids(path, "image", entries):
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{path}: image {image_id} has no file_name.")
        inner = PurePosixPath(name)
        if not importing and (inner.is_absolute() or ".." in inner.parts or "\0" in name):
            raise DatasetError(
                f"{path}: image {image_id} has the file_name {name!r}; it must be relative to the images' folder."
            )
        if str(inner) in owner:
            raise DatasetError(f"{path}: images {owner[str(inner)]} and {image_id} have the same file_name, {name}.")
        owner[str(inner)] = image_id
        yield image_id, str(inner), entry


def _size(path: Path, image_id: int, entry: Mapping[str, Any]) -> tuple[int | None, int | None]:
    rows, columns = (_side(path, image_id, key, entry.get(key)) for key in ("height", "width"))
    return rows, columns


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
