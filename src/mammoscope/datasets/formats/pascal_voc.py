"""Pascal VOC: an XML file per image.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html: pixels count from 1 and both corners belong to
the box, so that ``xmin = 1, xmax = 10`` covers the first ten columns.

LabelMe: a JSON file per image (https://github.com/wkentaro/labelme).
"""

import base64
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked
from mammoscope.datasets.formats.base import (
    ImageFolder,
    LabelledFile,
    ReadOptions,
    ellipse,
    outlined,
    rectangle,
)
from mammoscope.datasets.formats.parsing import member, number, numbers, read_json_text, read_text
from mammoscope.datasets.image_marks import ImportedBox, PassedOverError, Silence, UnknownMarkError, account

_ATTRIBUTES = ("pose", "truncated", "difficult", "occluded")


def read_voc(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read the XML files of a folder and its folders, or one XML file."""
    check_unpacked(source)
    files = sorted(source.rglob("*.xml")) if source.is_dir() else [source]
    if not files:
        raise DatasetError(f"{source} holds no XML files.")
    for path in files:
        yield _read_file(path, images, options)


def parse_xml(path: Path) -> ET.Element:
    """The root of an XML file.

    Raises
    ------
    DatasetError
        If it cannot be read or is no XML: which line.
    """
    check_unpacked(path)
    try:
        return ET.parse(path).getroot()
    except ET.ParseError as error:
        raise DatasetError(f"{path}, line {error.position[0]}: this is not valid XML; was the file cut off?") from None
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist.") from None
    except (OSError, ValueError, LookupError):
        raise DatasetError(f"{path} cannot be read as XML.") from None


def _read_file(path: Path, images: ImageFolder, options: ReadOptions) -> LabelledFile:
    root = parse_xml(path)
    if root.tag != "annotation":
        raise DatasetError(f"{path} is not a Pascal VOC file: its root is <{root.tag}>, not <annotation>.")
    named = (root.findtext("filename") or "").strip()
    image = images.find([name for name in (named, path.stem) if name], str(path))
    size = root.find("size")
    rows, columns = (None, None) if size is None else (_side(path, size, side) for side in ("height", "width"))
    marks = account(
        ((f"{path}, object {n}", entry) for n, entry in enumerate(root.findall("object"), start=1)),
        partial(_box, options=options),
        options.silence_or(Silence.NEGATIVE),  # somebody saved a file for it
    )
    return LabelledFile(image, str(path), marks, rows or None, columns or None)  # some programs write a size of 0


def _side(path: Path, size: ET.Element, side: str) -> int:
    return int(number(str(path), f"the size's {side}", size.findtext(side)))


def _box(where: str, entry: ET.Element, options: ReadOptions) -> ImportedBox:
    label = (entry.findtext("name") or "").strip() or options.label
    if not label:
        raise DatasetError(f"{where}: it has no name.")
    frame = entry.find("bndbox")
    if frame is None:
        raise UnknownMarkError("an object without a bndbox")
    x0, y0, x1, y1 = (number(where, side, frame.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax"))
    if options.counts_from == 1:
        if min(x0, y0) < 1:
            raise DatasetError(
                f"{where}: xmin {x0:g}, ymin {y0:g}, but Pascal VOC counts pixels from 1: if the program that wrote "
                "this counts from 0, import with --counts-from 0."
            )
        x0, y0 = x0 - 1, y0 - 1
    attributes = {key: text.strip() for key in _ATTRIBUTES if (text := entry.findtext(key)) and text.strip()}
    return rectangle((x0, y0, x1, y1), label, attributes=attributes)


def read_labelme(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read the JSON files of a folder and its folders, or one file.

    A file without a shape says that there is no lesion. X-AnyLabeling writes one also where a model found nothing, and
    notes in ``checked`` whether a person agreed: without that such an image is unannotated, and what a person rejected
    (``failed``) is disputed.
    """
    check_unpacked(source)
    unchecked = 0
    files = sorted(source.rglob("*.json")) if source.is_dir() else [source]
    if not files:
        raise DatasetError(f"{source} holds no JSON files.")
    for path in files:
        content = read_json_text(path, read_text(path))
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list):
            raise DatasetError(f"{path} is not a LabelMe file: it has no list 'shapes'.")
        names = [name for name in (content.get("imagePath"), path.stem) if isinstance(name, str) and name]
        rows, columns = (
            value if isinstance(value := content.get(side), int) and value > 0 else None
            for side in ("imageHeight", "imageWidth")
        )
        checked = content.get("checked", True)  # LabelMe has no such key: somebody saved the file
        marks = account(
            ((f"{path}, shape {n}", shape) for n, shape in enumerate(shapes, start=1)),
            partial(_labelme_box, options=options),
            options.silence_or(Silence.NEGATIVE if checked is True else Silence.UNANNOTATED),
            disputed=checked == "failed",
        )
        unchecked += not shapes and checked is not True
        flags = content.get("flags")
        attributes = {key: "yes" for key, is_set in flags.items() if is_set} if isinstance(flags, dict) else {}
        yield LabelledFile(images.find(names, str(path)), str(path), marks, rows, columns, attributes=attributes)
    if unchecked and options.silence is None:
        options.notes.append(
            f"{unchecked} files of X-AnyLabeling hold no mark and are not checked there, so nobody said that their "
            "images show no lesion: they are unannotated. --unmarked negative takes them for images without one."
        )


def _labelme_box(where: str, shape: Any, options: ReadOptions) -> ImportedBox:
    corners = [numbers(where, "a point", point) for point in member(where, shape, "points")]
    if any(len(corner) != 2 for corner in corners):
        raise DatasetError(f"{where}: a point has not two numbers.")
    label = str(shape.get("label") or options.label or "")
    if not label:
        raise DatasetError(f"{where}: it has no label.")
    more = {"attributes": _attributes(shape)}
    kind = shape.get("shape_type") or "polygon"  # files before version 3 have polygons only
    match kind, corners:
        case ("mask", [[x0, y0], [x1, y1]]):
            rows, columns = _mask_size(where, shape)
            return rectangle((x0, y0, x0 + columns, y0 + rows) if rows else (x0, y0, x1, y1), label, **more)
        case ("rectangle", [[x0, y0], [x1, y1]]):
            return rectangle((x0, y0, x1, y1), label, **more)
        case ("circle", [[cx, cy], [x, y]]):
            radius = math.hypot(x - cx, y - cy)
            return ellipse((cx, cy), (radius, radius), 0, label, **more)
        case ("polygon" | "rectangle" | "linestrip" | "oriented_rectangle" | "rotation" | "quadrilateral", _):
            return outlined([(x, y) for x, y in corners], label, **more)
        case ("point" | "points" | "line", _):
            raise PassedOverError(f"a {kind}, which has no area")
        case _:
            raise UnknownMarkError(f"the shape_type {str(kind)[:40]!r} with {len(corners)} points")


def _mask_size(where: str, shape: dict[str, Any]) -> tuple[int, int]:
    """(rows, columns) of a mask's picture; its two points are pixels that both belong to it."""
    coded = shape.get("mask")
    if not isinstance(coded, str) or not coded:
        return 0, 0
    try:
        with Image.open(BytesIO(base64.b64decode(coded))) as picture:
            return picture.height, picture.width
    except (OSError, ValueError):
        raise DatasetError(f"{where}: its mask is not a picture that can be read.") from None


def _attributes(shape: dict[str, Any]) -> dict[str, str]:
    flags = shape.get("flags")
    found = {key: "yes" for key, is_set in flags.items() if is_set} if isinstance(flags, dict) else {}
    of_x_anylabeling = shape.get("attributes")
    for key, value in of_x_anylabeling.items() if isinstance(of_x_anylabeling, dict) else ():
        if str(value).strip():
            found[str(key)] = str(value)
    if shape.get("difficult") is True:
        found["difficult"] = "yes"
    if description := str(shape.get("description") or "").strip():
        found["description"] = description
    return found
