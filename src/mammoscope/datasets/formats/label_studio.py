"""Label Studio: tasks with annotations as JSON, and its short form JSON-MIN.

https://labelstud.io/guide/export: positions and sizes are percent of the image; a rectangle is turned clockwise about
its top left corner.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.base import ImageFolder, LabelledFile, ReadOptions, ellipse, outlined, turned_rectangle
from mammoscope.datasets.formats.parsing import member, number, numbers, read_json_text, read_text
from mammoscope.datasets.records import ImportedBox
from mammoscope.datasets.review_log import ReviewState

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the names of files that were uploaded
_SHAPES = {"rectanglelabels": "rectangle", "polygonlabels": "polygon", "ellipselabels": "ellipse"}
_SHAPES |= {shape: shape for shape in _SHAPES.values()}
_WITHOUT_BOX = {"choices", "textarea", "rating", "number", "labels", "taxonomy", "datetime", "relation"}


def read_label_studio(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read an export.

    Where a task has several annotations, the one marked as ground truth counts, else the latest; where they differ,
    the image is disputed. Cancelled ones do not count, and a task without any is unannotated.
    """
    tasks = read_json_text(source, read_text(source))
    if not isinstance(tasks, list) or not tasks:
        raise DatasetError(f"{source} is not an export of Label Studio: it needs a list of tasks.")
    for position, task in enumerate(tasks, start=1):
        where = f"{source}, task {task.get('id', position) if isinstance(task, dict) else position}"
        yield _task(where, task, images, options)


def _task(where: str, task: Any, images: ImageFolder, options: ReadOptions) -> LabelledFile:
    data = task.get("data", task) if isinstance(task, dict) else None
    if not isinstance(data, dict):
        raise DatasetError(f"{where}: it is no task.")
    image = images.find(_image_names(where, data), where)
    readings = _readings(where, task)
    if not readings:
        return LabelledFile(image, where, review=ReviewState.UNANNOTATED)
    rows, columns = images.size(image, where)
    read = [_boxes(f"{where}, annotation {n}", r, (rows, columns), options) for n, r in enumerate(readings, start=1)]
    differ = any(_edges(other) != _edges(read[0]) for other in read)
    return LabelledFile(
        image, where, read[0], attributes=_choices(readings[0]), review=ReviewState.DISPUTED if differ else None
    )


def _image_names(where: str, data: Mapping[str, Any]) -> list[str]:
    """What the file may be called: the path's end, and the same without what an upload put before the name."""
    keys = [key for key in ("image", "img", "ocr", "url") if isinstance(data.get(key), str)]
    if not keys:
        keys = [key for key, value in data.items() if isinstance(value, str) and "." in value]
    if not keys:
        raise DatasetError(f"{where}: it names no image.")
    address = urlsplit(data[keys[0]].replace("\\", "/"))
    path = unquote(parse_qs(address.query).get("d", [address.path])[0])
    folder, _, name = path.rpartition("/")
    shorter = _UPLOAD.sub("", name)
    return [path, f"{folder}/{shorter}", shorter]


def _readings(where: str, task: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The results of each annotation that counts, the deciding one first."""
    entries = task.get("annotations", task.get("completions"))
    if entries is None:
        return _short_form(task)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DatasetError(f"{where}: its annotations are no list of objects.")
    counting = [entry for entry in entries if not entry.get("was_cancelled")]
    counting.sort(key=lambda e: (bool(e.get("ground_truth")), str(e.get("updated_at", "")), str(e.get("id", ""))))
    return [_results(where, entry.get("result")) for entry in reversed(counting)]


def _results(where: str, result: object) -> list[Mapping[str, Any]]:
    if not isinstance(result, list) or not all(isinstance(entry, dict) for entry in result):
        raise DatasetError(f"{where}: an annotation has no list 'result'.")
    return result


def _short_form(task: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """JSON-MIN: the values of regions stand under the name of their control."""
    results: list[Mapping[str, Any]] = []
    for value in task.values():
        for region in value if isinstance(value, list) else ():
            kinds = [kind for kind in _SHAPES if isinstance(region, dict) and kind in region]
            if kinds:
                results.append({"type": kinds[0], "value": region, **region})
    return [results] if results else []


def _boxes(
    where: str, results: Sequence[Mapping[str, Any]], size: tuple[int, int], options: ReadOptions
) -> tuple[ImportedBox, ...]:
    boxes = []
    for position, result in enumerate(results, start=1):
        place = f"{where}, result {position}"
        kind = str(result.get("type"))
        if kind in _SHAPES:
            boxes.append(_box(place, kind, result, size, options))
        elif kind not in _WITHOUT_BOX:
            raise DatasetError(f"{place}: regions of the type {kind!r} cannot be read; export boxes or polygons.")
    return tuple(boxes)


def _box(where: str, kind: str, result: Mapping[str, Any], size: tuple[int, int], options: ReadOptions) -> ImportedBox:
    stated = (result.get("original_height"), result.get("original_width"))
    if None not in stated and stated != size:
        raise DatasetError(
            f"{where}: it was drawn on an image of {stated[0]} rows and {stated[1]} columns, but the file has "
            f"{size[0]} and {size[1]}: is it another image?"
        )
    if result.get("image_rotation"):
        raise DatasetError(f"{where}: it was drawn on a turned image; turn the view back and export again.")
    rows, columns = size
    value = member(where, result, "value")
    names = value.get(kind)
    label = str(names[0]) if isinstance(names, list) and names else options.label
    if not label:
        raise DatasetError(f"{where}: the region has no label.")

    def share(key: str, of: int) -> float:
        return number(where, key, member(where, value, key)) * of / 100

    match _SHAPES[kind]:
        case "rectangle":
            corner = (share("x", columns), share("y", rows))
            extent = (share("width", columns), share("height", rows))
            turned = number(where, "rotation", value.get("rotation", 0))
            return turned_rectangle(where, corner, extent, turned, corner, label)
        case "ellipse":
            center = (share("x", columns), share("y", rows))
            radii = (share("radiusX", columns), share("radiusY", rows))
            return ellipse(where, center, radii, number(where, "rotation", value.get("rotation", 0)), label)
        case _:
            corners = [numbers(where, "a corner", corner) for corner in member(where, value, "points")]
            if any(len(corner) != 2 for corner in corners):
                raise DatasetError(f"{where}: a polygon's corner has not two numbers.")
            return outlined(where, [(x * columns / 100, y * rows / 100) for x, y in corners], label)


def _choices(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    chosen = {}
    for result in results:
        value = result.get("value")
        if result.get("type") == "choices" and isinstance(value, dict) and isinstance(value.get("choices"), list):
            chosen[str(result.get("from_name", "choice"))] = ", ".join(map(str, value["choices"]))
    return chosen


def _edges(boxes: Sequence[ImportedBox]) -> list[tuple[str, ...]]:
    return sorted((box.label, *(f"{edge:.2f}" for edge in box.box.as_tuple())) for box in boxes)
