"""LabelMe: a JSON file per image (https://github.com/wkentaro/labelme)."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked
from mammoscope.datasets.formats.image_folder import ImageFolder
from mammoscope.datasets.formats.labelled import LabelledFile, ReadOptions
from mammoscope.datasets.formats.shapes import ellipse, no_area, outlined, rectangle
from mammoscope.datasets.formats.texts import member, numbers, read_json_text, read_text
from mammoscope.datasets.imported import ImportedBox


def read_labelme(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read the JSON files of a folder and its folders, or one file."""
    check_unpacked(source)
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
        boxes = tuple(_box(f"{path}, shape {n}", shape, options) for n, shape in enumerate(shapes, start=1))
        flags = content.get("flags")
        attributes = {key: "yes" for key, is_set in flags.items() if is_set} if isinstance(flags, dict) else {}
        yield LabelledFile(images.find(names, str(path)), str(path), boxes, rows, columns, attributes=attributes)


def _box(where: str, shape: Any, options: ReadOptions) -> ImportedBox:
    corners = [numbers(where, "a point", point) for point in member(where, shape, "points")]
    if any(len(corner) != 2 for corner in corners):
        raise DatasetError(f"{where}: a point has not two numbers.")
    label = str(shape.get("label") or options.label or "")
    if not label:
        raise DatasetError(f"{where}: it has no label.")
    more = {"attributes": _attributes(shape)}
    kind = shape.get("shape_type") or "polygon"  # files before version 3 have polygons only
    match kind, corners:
        case ("rectangle" | "mask", [[x0, y0], [x1, y1]]):
            return rectangle(where, (x0, y0, x1, y1), label, **more)
        case ("circle", [[cx, cy], [x, y]]):
            radius = math.hypot(x - cx, y - cy)
            return ellipse(where, (cx, cy), (radius, radius), 0, label, **more)
        case ("polygon" | "rectangle" | "linestrip" | "oriented_rectangle", _):
            return outlined(where, [(x, y) for x, y in corners], label, **more)
        case _:
            raise no_area(where, str(kind))


def _attributes(shape: dict[str, Any]) -> dict[str, str]:
    flags = shape.get("flags")
    found = {key: "yes" for key, is_set in flags.items() if is_set} if isinstance(flags, dict) else {}
    if description := str(shape.get("description") or "").strip():
        found["description"] = description
    return found
