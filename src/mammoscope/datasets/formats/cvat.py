"""CVAT for images 1.1: one XML file.

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/: boxes are turned clockwise about their centre.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.base import (
    ImageFolder,
    LabelledFile,
    ReadOptions,
    ellipse,
    outlined,
    rectangle,
    subset_of,
    turned_rectangle,
)
from mammoscope.datasets.formats.parsing import number
from mammoscope.datasets.formats.pascal_voc import parse_xml
from mammoscope.datasets.image_marks import ImportedBox, PassedOverError, Silence, UnknownMarkError, account

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
    marks = account(
        ((f"{where}, shape {n}", shape) for n, shape in enumerate(shapes, start=1)),
        partial(_box, options=options),
        options.silence_or(Silence.NEGATIVE),  # the task lists it, and its reader left it so
    )
    rows, columns = (int(number(where, side, entry.get(side))) for side in ("height", "width"))
    tags = {tag.get("label", ""): "yes" for tag in entry.findall("tag")}
    attributes = {key: value for tag in entry.findall("tag") for key, value in _attributes(tag).items()}
    subset = subset_of((*entry.get("subset", "").split("/"), ""))
    return LabelledFile(
        images.find([name], where), where, marks, rows, columns, attributes={**tags, **attributes}, subset=subset
    )


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
            return turned_rectangle((x0, y0), (x1 - x0, y1 - y0), turned, center, label, **more)
        case "ellipse":
            return ellipse((value("cx"), value("cy")), (value("rx"), value("ry")), turned, label, **more)
        case "polygon" | "polyline":
            return outlined(_points(where, shape.get("points", "")), label, **more)
        case "mask":
            x0, y0 = value("left"), value("top")
            return rectangle((x0, y0, x0 + value("width"), y0 + value("height")), label, **more)
        case "points" | "skeleton":
            raise PassedOverError(f"<{shape.tag}>, which has no area")
        case kind:
            raise UnknownMarkError(f"the shape <{kind}>")


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
