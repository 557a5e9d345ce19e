"""VGG Image Annotator (VIA): projects and exports of versions 1 to 3, as JSON and as CSV.

https://www.robots.ox.ac.uk/~vgg/software/via/. Versions 1 and 2 have a list (in version 1, a numbered object) of
regions for each file. In version 3 a shape is ``[kind, numbers...]``, an attribute's value the id of one of its
options, both in tables of the project; what is said of a whole file is an entry without a shape.

VIA lists an image as soon as it is loaded. So one without a region is negative only where an attribute of the file says
so ("normal", see `says_normal`).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.base import (
    ImageFolder,
    LabelledFile,
    ReadOptions,
    ellipse,
    label_of,
    outlined,
    rectangle,
    says_normal,
)
from mammoscope.datasets.formats.parsing import (
    columns_of,
    member,
    number,
    numbers,
    read_json_text,
    read_table,
    read_text,
)
from mammoscope.datasets.image_marks import ImportedBox, PassedOverError, Silence, UnknownMarkError, account

_KINDS = {1: "point", 5: "line"}
_Point = tuple[float, float]
_COLUMNS = ("file_list", "spatial_coordinates", "metadata")
_Region = tuple[Any, dict[str, str]]
"""A shape of VIA 3, and what was said of it."""


@dataclass
class _Entries:
    """What VIA 3 has of one image."""

    regions: list[tuple[str, _Region]] = field(default_factory=list)
    of_file: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, shape: object, said: dict[str, str]) -> None:
        """A region; or, of an entry without a shape, what was said of the file."""
        if shape:
            self.regions.append((where, (shape, said)))
        else:
            self.of_file |= said


def read_via3_json(
    source: Path, content: Mapping[str, Any], images: ImageFolder, options: ReadOptions
) -> Iterator[LabelledFile]:
    """Read a project; views of several files, which VIA 3 has for comparing, are refused."""
    names = _names(content.get("attribute"))
    entries: dict[Path, _Entries] = {}
    of_view: dict[str, Path] = {}
    for view_id, view in content["view"].items():
        where = f"{source}, view {view_id}"
        files = member(where, view, "fid_list")
        if not isinstance(files, list) or len(files) != 1:
            raise DatasetError(f"{where}: it shows several files; only views of one image are read.")
        file = member(where, content.get("file"), str(files[0]))
        image = images.find([str(file.get("fname") or member(where, file, "src"))], where)
        of_view[view_id] = image
        entries.setdefault(image, _Entries())
    for key, entry in content["metadata"].items():
        where = f"{source}, metadata {key}"
        image_of = of_view.get(str(member(where, entry, "vid")))
        if image_of is None:
            raise DatasetError(f"{where}: its view is not there.")
        entries[image_of].add(where, entry.get("xy"), _said(entry.get("av"), names))
    yield from _labelled(source, entries, options)


def read_via3_csv(source: Path, text: str, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read the CSV export: its comments name columns and attributes. Images of which nothing is said are not in it."""
    lines = text.splitlines()
    comments = [line for line in lines if line.startswith("#")]
    head = next(line.partition("=")[2].strip() for line in comments if "CSV_HEADER" in line)
    if missing := [name for name in _COLUMNS if name not in head]:
        raise DatasetError(f"{source}: the column {missing[0]!r} is missing in its CSV_HEADER.")
    names = _names(_attribute_table(comments))
    body = "\n".join([head, *("" if line.startswith("#") else line for line in lines)])
    entries: dict[Path, _Entries] = {}
    for line, row in read_table(source, body):
        where = f"{source}, line {line - 1}"  # one line stands before those of the file
        # VIA writes the list's first quote without doubling it, so that it arrives without
        files = re.findall(r'[^\[\]",]+', row["file_list"])
        if len(files) != 1:
            raise DatasetError(f"{where}: it names {len(files)} files; only rows of one image are read.")
        there = entries.setdefault(images.find(files, where), _Entries())
        shape = _json(where, row["spatial_coordinates"] or "[]")
        there.add(where, shape, _said(_json(where, row["metadata"] or "{}"), names))
    if not entries:
        raise DatasetError(f"{source} has no rows.")
    yield from _labelled(source, entries, options)


def _labelled(source: Path, entries: Mapping[Path, _Entries], options: ReadOptions) -> Iterator[LabelledFile]:
    for image, theirs in entries.items():
        marks = account(theirs.regions, partial(_box, options=options), _silence(theirs.of_file, options))
        yield LabelledFile(image, f"{source}, {image.name}", marks, attributes=theirs.of_file)


def _silence(of_file: Mapping[str, str], options: ReadOptions) -> Silence:
    """What it means that a file has no region."""
    return options.silence_or(Silence.NEGATIVE if says_normal(of_file) else Silence.UNANNOTATED)


def _attribute_table(comments: list[str]) -> Any:
    for line in comments:
        if line.startswith(("# ATTRIBUTE ", "# ATTRIBUTES ")):
            try:
                return json.loads(line.partition("=")[2])
            except ValueError:
                return None
    return None


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise DatasetError(f"{where}: {text[:40]!r} is not the JSON that VIA writes.") from None


def _names(table: object) -> dict[str, tuple[str, dict[str, str]]]:
    """Name and options of each attribute by its id; one export of VIA 3 gives names only."""
    names: dict[str, tuple[str, dict[str, str]]] = {}
    for key, entry in (table if isinstance(table, dict) else {}).items():
        if isinstance(entry, dict):
            options = entry.get("options")
            names[str(key)] = (str(entry.get("aname", key)), options if isinstance(options, dict) else {})
        else:
            names[str(key)] = (str(entry), {})
    return names


def _said(values: object, names: Mapping[str, tuple[str, dict[str, str]]]) -> dict[str, str]:
    said = {}
    for key, value in (values if isinstance(values, dict) else {}).items():
        name, options = names.get(str(key), (str(key), {}))
        chosen = [str(options.get(option, option)) for option in str(value).split(",")] if options else [str(value)]
        if text := ", ".join(chosen).strip():
            said[name] = text
    return said


def _box(where: str, region: _Region, options: ReadOptions) -> ImportedBox:
    shape, attributes = region
    kind, *values = numbers(where, "its shape", shape)
    label = label_of(where, attributes, options)
    more = {"attributes": attributes}
    match int(kind), values:
        case (2, [x, y, width, height]):
            return rectangle((x, y, x + width, y + height), label, **more)
        case (3, [cx, cy, radius]):
            return ellipse((cx, cy), (radius, radius), 0, label, **more)
        case (4, [cx, cy, rx, ry]):
            return ellipse((cx, cy), (rx, ry), 0, label, **more)
        case (6 | 7, corners) if len(corners) % 2 == 0:
            return outlined(list(pairwise(corners))[::2], label, **more)
        case (8, corners) if corners and len(corners) % 2 == 0:  # points of its four edges
            xs, ys = corners[::2], corners[1::2]
            return rectangle((min(xs), min(ys), max(xs), max(ys)), label, **more)
        case (9, [x0, y0, x1, y1, x2, y2]):
            center, radius = _circle_through((x0, y0), (x1, y1), (x2, y2))
            return ellipse(center, (radius, radius), 0, label, **more)
        case (1 | 5 as number, _):
            raise PassedOverError(f"a {_KINDS[number]}, which has no area")
    raise UnknownMarkError(f"the VIA shape of kind {kind:g} with {len(values)} numbers")


def _circle_through(first: _Point, second: _Point, third: _Point) -> tuple[_Point, float]:
    """Centre and radius of the circle through three points: where the perpendicular bisectors of its chords meet."""
    (ax, ay), (bx, by) = ((point[0] - first[0], point[1] - first[1]) for point in (second, third))
    twice = 2 * (ax * by - ay * bx)
    if not twice:
        raise PassedOverError("a circle through three points on a line, which is none")
    a, b = ax * ax + ay * ay, bx * bx + by * by
    x, y = (by * a - ay * b) / twice, (ax * b - bx * a) / twice
    return (first[0] + x, first[1] + y), math.hypot(x, y)


_CSV_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")


def read_via(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read a project or an export of VIA, told apart by content."""
    silent = 0
    for labelled in _read(source, images, options):
        marks = labelled.marks
        silent += marks.silence is Silence.UNANNOTATED and not (marks.boxes or marks.passed_over or marks.unknown)
        yield labelled
    if silent and options.silence is None:
        options.notes.append(
            f"{silent} images have no region, and no attribute of the file says that they are normal: they are "
            "unannotated, for VIA lists every image that was loaded. --unmarked negative takes them for negative."
        )


def _read(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
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
        of_file = _plain(entry.get("file_attributes"))
        marks = account(
            ((f"{where}, region {position}", (member(where, region, "shape_attributes"),
              region.get("region_attributes"))) for position, region in enumerate(listed, start=1)),
            partial(_via_box, options=options), _silence(of_file, options),
        )  # fmt: skip
        yield LabelledFile(images.find([str(name)], where), where, marks, attributes=of_file)


def _read_csv(source: Path, text: str, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    # versions 1 and 2 begin the head with a sign of a comment
    text = text.lstrip("#")
    if missing := [name for name in _CSV_COLUMNS if name not in columns_of(text)]:
        raise DatasetError(f"{source}, line 1: a column {missing[0]!r} is missing: this is not a CSV file of VIA.")
    regions: dict[Path, list[tuple[str, tuple[Any, object]]]] = {}
    first: dict[Path, tuple[str, dict[str, Any]]] = {}
    for line, row in read_table(source, text):
        where = f"{source}, line {line}"
        image = images.find([row["filename"]], where)
        first.setdefault(image, (where, _plain(_cell(where, row.get("file_attributes", "")))))
        shape = _cell(where, row["region_shape_attributes"])
        there = regions.setdefault(image, [])
        if shape:
            there.append((where, (shape, _cell(where, row["region_attributes"]))))
    for image, (where, attributes) in first.items():
        marks = account(regions[image], partial(_via_box, options=options), _silence(attributes, options))
        yield LabelledFile(image, where, marks, attributes=attributes)


def _cell(where: str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text or "{}")
    except ValueError:
        raise DatasetError(f"{where}: {text[:40]!r} is not the JSON that VIA writes.") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{where}: {text[:40]!r} is not a JSON object.")
    return content


def _via_box(where: str, region: tuple[Any, object], options: ReadOptions) -> ImportedBox:
    shape, said = region
    attributes = _plain(said)
    label = label_of(where, attributes, options)
    more = {"attributes": attributes}

    def value(key: str) -> float:
        return number(where, key, member(where, shape, key))

    match member(where, shape, "name"):
        case "rect":
            x, y = value("x"), value("y")
            return rectangle((x, y, x + value("width"), y + value("height")), label, **more)
        case "circle":
            return ellipse((value("cx"), value("cy")), (value("r"), value("r")), 0, label, **more)
        case "ellipse":
            turned = math.degrees(value("theta")) if "theta" in shape else 0
            return ellipse((value("cx"), value("cy")), (value("rx"), value("ry")), turned, label, **more)
        case "polygon" | "polyline":
            xs = numbers(where, "all_points_x", member(where, shape, "all_points_x"))
            ys = numbers(where, "all_points_y", member(where, shape, "all_points_y"))
            if len(xs) != len(ys):
                raise DatasetError(f"{where}: {len(xs)} x and {len(ys)} y of a polygon's corners.")
            return outlined(list(zip(xs, ys, strict=True)), label, **more)
        case "point" | "line":
            raise PassedOverError(f"a {shape['name']}, which has no area")
        case kind:
            raise UnknownMarkError(f"the VIA shape {str(kind)[:40]!r}")


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
