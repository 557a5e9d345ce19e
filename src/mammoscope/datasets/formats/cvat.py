"""CVAT for images 1.1: one XML file.

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/: boxes are turned clockwise about their centre.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.base import (
    ImageFolder,
    LabelledFile,
    ReadOptions,
    ellipse,
    no_area,
    outlined,
    rectangle,
    turned_rectangle,
)
from mammoscope.datasets.formats.parsing import number
from mammoscope.datasets.formats.pascal_voc import parse_xml
from mammoscope.datasets.records import ImportedBox

_WITHOUT_BOX = {"tag"}


def read_cvat(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read ``annotations.xml``, or the folder that holds it. A tag becomes an attribute of its image."""
    path = source / "annotations.xml" if source.is_dir() else source
    root = parse_xml(path)
    if root.tag != "annotations":
        raise DatasetError(f"{path} is not a CVAT file: its root is <{root.tag}>, not <annotations>.")
    if root.find("track") is not None:
        raise DatasetError(f"{path} is CVAT's format for videos: export the task as 'CVAT for images 1.1'.")
    entries = root.findall("image")
    if not entries:
        raise DatasetError(f"{path} holds no images.")
    for entry in entries:
        yield _image(path, entry, images, options)


def _image(path: Path, entry: ET.Element, images: ImageFolder, options: ReadOptions) -> LabelledFile:
    name = entry.get("name", "")
    where = f"{path}, image {entry.get('id', '?')} ({name})"
    shapes = [shape for shape in entry if shape.tag not in _WITHOUT_BOX]
    boxes = tuple(_box(f"{where}, shape {n}", shape, options) for n, shape in enumerate(shapes, start=1))
    rows, columns = (int(number(where, side, entry.get(side))) for side in ("height", "width"))
    tags = {tag.get("label", ""): "yes" for tag in entry.findall("tag")}
    attributes = {key: value for tag in entry.findall("tag") for key, value in _attributes(tag).items()}
    return LabelledFile(images.find([name], where), where, boxes, rows, columns, attributes={**tags, **attributes})


def _box(where: str, shape: ET.Element, options: ReadOptions) -> ImportedBox:
    label = shape.get("label") or options.label
    if not label:
        raise DatasetError(f"{where}: it has no label.")
    more = {"attributes": _attributes(shape)}

    def value(key: str, default: str | None = None) -> float:
        return number(where, key, shape.get(key, default))

    turned = value("rotation", "0")
    match shape.tag:
        case "box":
            x0, y0, x1, y1 = (value(key) for key in ("xtl", "ytl", "xbr", "ybr"))
            center = ((x0 + x1) / 2, (y0 + y1) / 2)
            return turned_rectangle(where, (x0, y0), (x1 - x0, y1 - y0), turned, center, label, **more)
        case "ellipse":
            return ellipse(where, (value("cx"), value("cy")), (value("rx"), value("ry")), turned, label, **more)
        case "polygon" | "polyline":
            return outlined(where, _points(where, shape.get("points", "")), label, **more)
        case "mask":
            x0, y0 = value("left"), value("top")
            return rectangle(where, (x0, y0, x0 + value("width"), y0 + value("height")), label, **more)
        case kind:
            raise no_area(where, f"shape <{kind}>")


def _points(where: str, text: str) -> list[tuple[float, float]]:
    points = []
    for pair in text.split(";"):
        x, _, y = pair.partition(",")
        points.append((number(where, "a corner's x", x), number(where, "a corner's y", y)))
    return points


def _attributes(element: ET.Element) -> dict[str, str]:
    return {
        entry.get("name", ""): (entry.text or "").strip()
        for entry in element.findall("attribute")
        if (entry.text or "").strip()
    }
