"""CVAT for images 1.1: one XML file.

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/: boxes are turned clockwise about their centre.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

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
    """Read ``annotations.xml``, or the folder that holds it or a file for each part. A tag is of its image."""
    if source.is_dir() and not (source / "annotations.xml").is_file():
        parts = sorted(path for path in source.glob("*.xml") if not path.name.startswith("."))
        if not parts:
            raise DatasetError(f"{source} holds no annotations.xml.")
        for path in parts:
            yield from _read_file(path, images, options, subset_of((path.stem,), in_name=True))
        return
    yield from _read_file(source / "annotations.xml" if source.is_dir() else source, images, options, None)


def _read_file(path: Path, images: ImageFolder, options: ReadOptions, part: str | None) -> Iterator[LabelledFile]:
    root = parse_xml(path)
    if root.tag != "annotations":
        raise DatasetError(f"{path} is not a CVAT file: its root is <{root.tag}>, not <annotations>.")
    if root.find("track") is not None:
        raise DatasetError(f"{path} is CVAT's format for videos: export the task as 'CVAT for images 1.1'.")
    entries = root.findall("image")
    if not entries:
        raise DatasetError(f"{path} holds no images.")
    for entry in entries:
        yield _image(path, entry, images, options, part)


def _image(path: Path, entry: ET.Element, images: ImageFolder, options: ReadOptions, part: str | None) -> LabelledFile:
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
    subset = subset_of((*entry.get("subset", "").split("/"), "")) or part
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
            frame = tuple(round(value(key)) for key in ("left", "top", "width", "height"))
            return rectangle(_around_runs(where, shape.get("rle", ""), *frame), label, **more)
        case "points" | "skeleton":
            raise PassedOverError(f"<{shape.tag}>, which has no area")
        case kind:
            raise UnknownMarkError(f"the shape <{kind}>")


def _around_runs(where: str, text: str, left: int, top: int, width: int, height: int) -> tuple[float, ...]:
    """Edges around what a mask's runs mark, row by row in a frame that may be the whole image, unmarked runs first.

    Runs that do not fill their frame say nothing: the frame counts then.
    """
    runs = [int(number(where, "a run", run)) for run in text.split(",") if run.strip()]
    if sum(runs) != width * height or width < 1 or min(runs, default=-1) < 0:
        return left, top, left + width, top + height
    marked = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    down, across = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not len(down):
        return left, top, left, top
    first, last = (int(across[0]), int(down[0])), (int(across[-1]), int(down[-1]))
    return left + first[0], top + first[1], left + last[0] + 1, top + last[1] + 1


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
