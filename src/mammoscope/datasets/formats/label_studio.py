"""Label Studio: tasks with annotations as JSON, and its short form JSON-MIN.

https://labelstud.io/guide/export: positions and sizes are percent of the image; a rectangle is turned clockwise about
its top left corner.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.base import ImageFolder, LabelledFile, ReadOptions, ellipse, outlined, turned_rectangle
from mammoscope.datasets.formats.parsing import member, number, numbers, read_json_text, read_text
from mammoscope.datasets.image_marks import (
    ImageMarks,
    ImportedBox,
    PassedOverError,
    Silence,
    UnknownMarkError,
    account,
)
from mammoscope.datasets.masks import unpack_runs
from mammoscope.findings import Box

_SHAPES = ("rectangle", "polygon", "ellipse", "brush")
_KINDS = {**{shape: shape for shape in _SHAPES}, **{f"{shape}labels": shape for shape in _SHAPES}}
_SAID = ("choices", "textarea", "rating", "number", "labels", "taxonomy", "datetime", "pairwise")
"""Results that say something, of the region whose id they have or of the image; not a place."""
_WITHOUT_AREA = {"keypoint": "a keypoint", "keypointlabels": "a keypoint", "vector": "a line", "vectorlabels": "a line"}


_OF_TASK = {"image", "img", "ocr", "url", "id", "created_at", "updated_at", "annotator", "agreement"}
"""Keys of JSON-MIN that are about the task; other texts are what was chosen or written of the image."""


@dataclass(frozen=True, slots=True)
class _Region:
    """The results of one region: its shape, and what was said of it."""

    shape: Mapping[str, Any]
    said: tuple[Mapping[str, Any], ...]


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
    image = images.find([_image_name(where, data)], where)
    readings = _readings(where, task)
    if not readings:
        return LabelledFile(image, where, ImageMarks((), options.silence_or(Silence.UNANNOTATED)))
    size = images.size(image, where)
    read = [_marks(f"{where}, annotation {n}", r, size, options) for n, r in enumerate(readings, start=1)]
    differ = any(_edges(other.boxes) != _edges(read[0].boxes) for other in read)
    of_image = [result for result in readings[0] if _place(result) is None]
    shown = {str(result.get("id")) for result in readings[0] if _place(result) is not None}
    attributes = _attributes(result for result in of_image if str(result.get("id")) not in shown)
    if "data" not in task:
        attributes |= {str(key): value for key, value in task.items() if isinstance(value, str) and key not in _OF_TASK}
    return LabelledFile(image, where, replace(read[0], disputed=differ), attributes=attributes)


def _image_name(where: str, data: Mapping[str, Any]) -> str:
    keys = [key for key in ("image", "img", "ocr", "url") if isinstance(data.get(key), str)]
    if not keys:
        keys = [key for key, value in data.items() if isinstance(value, str) and "." in value]
    if not keys:
        raise DatasetError(f"{where}: it names no image.")
    return str(data[keys[0]])


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
    """JSON-MIN: the values of regions stand under the name of their control.

    A task that somebody submitted has an ``annotation_id``, also where nothing is marked.
    """
    results: list[Mapping[str, Any]] = []
    for value in task.values():
        for region in value if isinstance(value, list) else ():
            kinds = [kind for kind in (*_KINDS, *_WITHOUT_AREA) if isinstance(region, dict) and kind in region]
            if kinds:
                results.append({"type": kinds[0], "value": region, **region})
            elif isinstance(region, dict) and {"x", "y"} & set(region):
                results.append({"type": _labelling(region), "value": region})
    return [results] if results or task.get("annotation_id") is not None else []


def _labelling(region: Mapping[str, Any]) -> str:
    """What JSON-MIN calls a region that has no labels of a kind that is known."""
    return next((key for key in region if key.endswith("labels")), "region")


def _place(result: Mapping[str, Any]) -> str | None:
    """What kind of place a result marks; ``None`` where it says something and marks none."""
    kind = str(result.get("type"))
    return None if kind in (*_SAID, "relation", "None") and not _is_place(result) else kind


def _is_place(result: Mapping[str, Any]) -> bool:
    """Whether a result that has no type that is known lies somewhere."""
    return result.get("type") is None and isinstance(result.get("value"), dict) and "x" in result["value"]


def _marks(where: str, results: Sequence[Mapping[str, Any]], size: tuple[int, int], options: ReadOptions) -> ImageMarks:
    return account(
        ((f"{where}, result {n}", region) for n, region in _regions(results)),
        partial(_box, size=size, options=options),
        options.silence_or(Silence.NEGATIVE),  # somebody submitted it
    )


def _regions(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, _Region]]:
    """(position of its shape, region) of each region: results of one id are about one place."""
    grouped: dict[object, list[tuple[int, Mapping[str, Any]]]] = {}
    for position, result in enumerate(results, start=1):
        grouped.setdefault(result.get("id", position), []).append((position, result))
    for group in grouped.values():
        places = [(position, result) for position, result in group if _place(result) is not None]
        if places:  # the shape may be there bare and with labels
            position, shape = max(places, key=lambda placed: str(placed[1].get("type")).endswith("labels"))
            yield position, _Region(shape, tuple(result for _, result in group if result is not shape))


def _box(where: str, region: _Region, size: tuple[int, int], options: ReadOptions) -> ImportedBox:
    result = region.shape
    kind = str(result.get("type"))
    if kind in _WITHOUT_AREA:
        raise PassedOverError(f"{_WITHOUT_AREA[kind]}, which has no area")
    if kind not in _KINDS:
        raise UnknownMarkError(f"a region of the type {kind[:40]!r}")
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
    attributes = _attributes(region.said)
    label = _label(where, kind, region, attributes, options)
    more: dict[str, Any] = {"attributes": attributes}

    def share(key: str, of: int) -> float:
        return number(where, key, member(where, value, key)) * of / 100

    match _KINDS[kind]:
        case "rectangle":
            corner = (share("x", columns), share("y", rows))
            extent = (share("width", columns), share("height", rows))
            turned = number(where, "rotation", value.get("rotation", 0))
            return turned_rectangle(corner, extent, turned, corner, label, **more)
        case "ellipse":
            center = (share("x", columns), share("y", rows))
            radii = (share("radiusX", columns), share("radiusY", rows))
            return ellipse(center, radii, number(where, "rotation", value.get("rotation", 0)), label, **more)
        case "brush":
            return _painted(where, value, size, label, more)
        case _:
            corners = [numbers(where, "a corner", corner) for corner in member(where, value, "points")]
            if any(len(corner) != 2 for corner in corners):
                raise DatasetError(f"{where}: a polygon's corner has not two numbers.")
            return outlined([(x * columns / 100, y * rows / 100) for x, y in corners], label, **more)


def _label(where: str, kind: str, region: _Region, attributes: Mapping[str, str], options: ReadOptions) -> str:
    """The shape's own label, or that of a result with its id; the attribute asked for goes before."""
    if options.label_key:
        if options.label_key not in attributes and not options.label:
            raise DatasetError(f"{where}: it has no attribute {options.label_key!r}; it has {sorted(attributes)}.")
        return attributes.get(options.label_key) or str(options.label)
    for result, key in ((region.shape, kind), (region.shape, "labels"), *((said, "labels") for said in region.said)):
        value = result.get("value")
        names = value.get(key) if isinstance(value, dict) else None
        if isinstance(names, list) and names:
            return str(names[0])
    if not options.label:
        raise DatasetError(f"{where}: the region has no label.")
    return options.label


def _painted(
    where: str, value: Mapping[str, Any], size: tuple[int, int], label: str, more: Mapping[str, Any]
) -> ImportedBox:
    """The box around what a brush painted: runs of red, green, blue and opacity."""
    if value.get("format", "rle") != "rle" or not isinstance(value.get("rle"), list):
        raise UnknownMarkError("a brush region without run lengths")
    try:
        painted = unpack_runs(bytes(value["rle"])).reshape(*size, 4)[..., 3] > 0
    except (ValueError, TypeError):
        raise DatasetError(f"{where}: its run lengths are not those of an image of its size.") from None
    if not painted.any():
        raise PassedOverError("a brush region without area")
    down, across = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
    box = Box(float(across[0]), float(down[0]), float(across[-1] + 1), float(down[-1] + 1))
    return ImportedBox(box, label, **more)


def _attributes(results: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What results say, by the names of their controls."""
    said: dict[str, str] = {}
    for result in results:
        kind, value = str(result.get("type")), result.get("value")
        if kind == "labels" or not isinstance(value, dict):
            continue
        found = value.get("text") if kind == "textarea" else value.get(kind)
        words = found if isinstance(found, list) else [found]
        text = ", ".join(" / ".join(map(str, word)) if isinstance(word, list) else str(word) for word in words)
        if found is not None and text.strip():
            said[str(result.get("from_name", "choice"))] = text
    return said


def _edges(boxes: Sequence[ImportedBox]) -> list[tuple[str, ...]]:
    return sorted((box.label, *(f"{edge:.2f}" for edge in box.box.as_tuple())) for box in boxes)
