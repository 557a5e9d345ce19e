"""COCO detection, as one of the annotation formats (see `mammoscope.datasets.coco`).

Detectron2's dataset dicts as JSON.

https://detectron2.readthedocs.io/en/latest/tutorials/datasets.html: a list of images with ``annotations``; their
``bbox`` is to be read by ``bbox_mode``, and classes are numbered from 0 in the order of ``thing_classes``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mammoscope.datasets.coco import CocoAnnotation, read_coco
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked
from mammoscope.datasets.formats.base import ImageFolder, LabelledFile, ReadOptions, rectangle, turned_rectangle
from mammoscope.datasets.formats.parsing import member, number, numbers, read_json_text, read_text
from mammoscope.datasets.records import ImportedBox, polygons_of

_KEYS = {"patient": "patient_id", "study": "study_id"}
_SAME = ("laterality", "view", "density", "pathology", "scanner", "spacing_mm", "split")


def read_coco_file(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:  # noqa: ARG001
    """Read a COCO file."""
    check_unpacked(source)
    for image in read_coco(source).images:
        where = f"{source}, image {image.id}"
        names = {**_KEYS, **{name: name for name in _SAME}}
        facts = {name: str(image.facts[key]) for name, key in names.items() if image.facts.get(key) is not None}
        attributes = image.facts.get("attributes")
        yield LabelledFile(
            images.find([image.file_name], where), where, tuple(_box(a) for a in image.annotations), image.rows,
            image.columns, facts, attributes if isinstance(attributes, dict) else {},
        )  # fmt: skip


def _box(annotation: CocoAnnotation) -> ImportedBox:
    attributes = annotation.facts.get("attributes")
    return ImportedBox(
        annotation.box, annotation.label, attributes if isinstance(attributes, dict) else {},
        polygons_of(annotation.facts.get("segmentation")), annotation.crowd,
    )  # fmt: skip


DICTS, METADATA = "dataset.json", "metadata.json"
"""Files that an export writes: the list, and ``{"thing_classes": [...]}``."""

_MODES = ("XYXY_ABS", "XYWH_ABS", "XYXY_REL", "XYWH_REL", "XYWHA_ABS")


def read_detectron2(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read a JSON list, or the folder of an export; classes come from ``metadata.json`` beside it or the options."""
    path = source / DICTS if source.is_dir() else source
    dicts = read_json_text(path, read_text(path))
    if not isinstance(dicts, list) or not dicts:
        raise DatasetError(f"{path} is not a list of Detectron2's dataset dicts.")
    classes = options.classes or _classes(path)
    for position, entry in enumerate(dicts):
        where = f"{path}, image {position}"
        image = images.find([str(member(where, entry, "file_name"))], where)
        rows, columns = images.size(image, where)
        annotations = entry.get("annotations")
        if annotations is not None and not isinstance(annotations, list):
            raise DatasetError(f"{where}: its annotations are no list.")
        boxes = tuple(
            _detectron2_box(f"{where}, annotation {n}", annotation, (rows, columns), classes)
            for n, annotation in enumerate(annotations or [])
        )
        height, width = (value if isinstance(value := entry.get(side), int) else None for side in ("height", "width"))
        yield LabelledFile(image, where, boxes, height, width)


def _classes(path: Path) -> tuple[str, ...]:
    beside = path.parent / METADATA
    if not beside.is_file():
        raise DatasetError(f"{path}: the names of the classes are not known: give --classes in their order.")
    names = member(str(beside), read_json_text(beside, read_text(beside)), "thing_classes")
    if not isinstance(names, list):
        raise DatasetError(f"{beside}: its thing_classes are no list.")
    return tuple(map(str, names))


def _detectron2_box(where: str, annotation: Any, size: tuple[int, int], classes: tuple[str, ...]) -> ImportedBox:
    number_of_class = number(where, "category_id", member(where, annotation, "category_id"))
    if number_of_class != int(number_of_class) or not 0 <= number_of_class < len(classes):
        raise DatasetError(f"{where}: there is no class {number_of_class:g}; the classes are 0 to {len(classes) - 1}.")
    label = classes[int(number_of_class)]
    values = numbers(where, "bbox", member(where, annotation, "bbox"))
    mode = _mode(where, annotation.get("bbox_mode"))
    rows, columns = size
    more: dict[str, Any] = {"crowd": bool(annotation.get("iscrowd", 0))}
    if mode == "XYWHA_ABS" and len(values) == 5:  # turned counter-clockwise about its centre
        cx, cy, width, height, degrees = values
        corner = (cx - width / 2, cy - height / 2)
        return turned_rectangle(where, corner, (width, height), -degrees, (cx, cy), label, **more)
    if len(values) != 4:
        raise DatasetError(f"{where}: a bbox of {mode} has not {len(values)} numbers.")
    if mode.endswith("REL"):
        values = [value * side for value, side in zip(values, (columns, rows, columns, rows), strict=True)]
    x, y, third, fourth = values
    edges = (x, y, x + third, y + fourth) if mode.startswith("XYWH") else (x, y, third, fourth)
    return rectangle(where, edges, label, polygons=polygons_of(annotation.get("segmentation")), **more)


def _mode(where: str, mode: object) -> str:
    """By number, as the enumeration is kept in JSON, or by name."""
    if isinstance(mode, int) and 0 <= mode < len(_MODES):
        return _MODES[mode]
    name = str(mode).removeprefix("BoxMode.").partition(":")[0]
    if name in _MODES:
        return name
    raise DatasetError(f"{where}: its bbox_mode {mode!r} is none of {', '.join(_MODES)} (0 to 4).")
