"""VGG Image Annotator (VIA), versions 1 and 2, as JSON and as CSV; version 3 is read by `via3`.

https://www.robots.ox.ac.uk/~vgg/software/via/: a list (or, in version 1, a numbered object) of regions per file.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.image_folder import ImageFolder
from mammoscope.datasets.formats.labelled import LabelledFile, ReadOptions
from mammoscope.datasets.formats.region_labels import label_of
from mammoscope.datasets.formats.shapes import ellipse, no_area, outlined, rectangle
from mammoscope.datasets.formats.texts import columns_of, member, number, numbers, read_json_text, read_table, read_text
from mammoscope.datasets.formats.via3 import read_via3_csv, read_via3_json
from mammoscope.datasets.imported import ImportedBox

_CSV_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")


def read_via(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read a project or an export of VIA, told apart by content."""
    text = read_text(source)
    if text.lstrip().startswith(("{", "[")):
        content = read_json_text(source, text)
        if isinstance(content, dict) and {"project", "metadata", "view"} <= set(content):
            return read_via3_json(source, content, images, options)
        return _read_json(source, content, images, options)
    if "CSV_HEADER" in text[:10_000] and text.lstrip().startswith("#"):
        return read_via3_csv(source, text, images, options)
    return _read_csv(source, text, images, options)


def _read_json(source: Path, content: Any, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    files = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files:
        raise DatasetError(f"{source} is not a VIA file: it has no regions by file.")
    for key, entry in files.items():
        where = f"{source}, entry {key[:60]!r}"
        name = member(where, entry, "filename")
        regions = member(where, entry, "regions")
        listed = list(regions.values()) if isinstance(regions, dict) else regions
        if not isinstance(listed, list):
            raise DatasetError(f"{where}: its regions are no list.")
        boxes = tuple(
            _box(f"{where}, region {position}", member(where, region, "shape_attributes"),
                 region.get("region_attributes"), options)
            for position, region in enumerate(listed, start=1)
        )  # fmt: skip
        yield LabelledFile(
            images.find([str(name)], where), where, boxes, attributes=_plain(entry.get("file_attributes"))
        )


def _read_csv(source: Path, text: str, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    # versions 1 and 2 begin the head with a sign of a comment
    text = text.lstrip("#")
    if missing := [name for name in _CSV_COLUMNS if name not in columns_of(text)]:
        raise DatasetError(f"{source}, line 1: a column {missing[0]!r} is missing: this is not a CSV file of VIA.")
    boxes: dict[Path, list[ImportedBox]] = {}
    first: dict[Path, tuple[str, dict[str, Any]]] = {}
    for line, row in read_table(source, text):
        where = f"{source}, line {line}"
        image = images.find([row["filename"]], where)
        first.setdefault(image, (where, _plain(_cell(where, row.get("file_attributes", "")))))
        shape = _cell(where, row["region_shape_attributes"])
        there = boxes.setdefault(image, [])
        if shape:
            there.append(_box(where, shape, _cell(where, row["region_attributes"]), options))
    for image, (where, attributes) in first.items():
        yield LabelledFile(image, where, tuple(boxes[image]), attributes=attributes)


def _cell(where: str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text or "{}")
    except ValueError:
        raise DatasetError(f"{where}: {text[:40]!r} is not the JSON that VIA writes.") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{where}: {text[:40]!r} is not a JSON object.")
    return content


def _box(where: str, shape: Mapping[str, Any], said: object, options: ReadOptions) -> ImportedBox:
    attributes = _plain(said)
    label = label_of(where, attributes, options)
    more = {"attributes": attributes}

    def value(key: str) -> float:
        return number(where, key, member(where, shape, key))

    match member(where, shape, "name"):
        case "rect":
            x, y = value("x"), value("y")
            return rectangle(where, (x, y, x + value("width"), y + value("height")), label, **more)
        case "circle":
            return ellipse(where, (value("cx"), value("cy")), (value("r"), value("r")), 0, label, **more)
        case "ellipse":
            turned = math.degrees(value("theta")) if "theta" in shape else 0
            return ellipse(where, (value("cx"), value("cy")), (value("rx"), value("ry")), turned, label, **more)
        case "polygon" | "polyline":
            xs = numbers(where, "all_points_x", member(where, shape, "all_points_x"))
            ys = numbers(where, "all_points_y", member(where, shape, "all_points_y"))
            if len(xs) != len(ys):
                raise DatasetError(f"{where}: {len(xs)} x and {len(ys)} y of a polygon's corners.")
            return outlined(where, list(zip(xs, ys, strict=True)), label, **more)
        case kind:
            raise no_area(where, str(kind))


def _plain(attributes: object) -> dict[str, Any]:
    """Attributes as texts; of check boxes, those that are ticked."""
    if not isinstance(attributes, dict):
        return {}
    found = {}
    for key, value in attributes.items():
        text = ", ".join(name for name, ticked in value.items() if ticked) if isinstance(value, dict) else str(value)
        if text.strip():
            found[str(key)] = text.strip()
    return found
