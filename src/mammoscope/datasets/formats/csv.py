"""Boxes in a CSV table with a head: a row a box, or a row without a box for an image that has none.

A CSV table of what is known of images beside their boxes: patient, study, side, view, density and so on.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mammoscope.datasets.dataset import AnnotatedImage
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.base import ImageFolder, LabelledFile, ReadOptions, rectangle
from mammoscope.datasets.formats.md_ai import COLUMNS as MD_AI
from mammoscope.datasets.formats.md_ai import read_md_ai
from mammoscope.datasets.formats.parsing import columns_of, number, read_table, read_text
from mammoscope.datasets.image_marks import ImportedBox, Silence, account
from mammoscope.datasets.review_log import ReviewState
from mammoscope.untrusted_text import csv_cell

FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_path", "path", "img")
_LABEL = ("label", "class", "category", "name", "class_name")
_EDGES = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("bbox_x", "bbox_y", "bbox_width", "bbox_height"))

FACTS = {
    "patient": ("patient", "patient_id"), "study": ("study", "study_id"), "laterality": ("laterality", "side"),
    "view": ("view", "view_position"), "density": ("density", "breast_density"), "pathology": ("pathology",),
    "scanner": ("scanner",), "spacing_mm": ("spacing_mm",), "split": ("split",), "review": ("review",),
}  # fmt: skip
"""Columns that speak of the image, by the names of the index."""


class _Columns(NamedTuple):
    file: str
    label: str | None
    box: tuple[str, ...]
    box_is_edges: bool
    facts: dict[str, str]
    attributes: tuple[str, ...]


def read_csv(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read a table; a box is two corners (``x0,y0,x1,y1``) or a corner and a size (``x,y,width,height``), from 0."""
    if source.is_dir():
        raise DatasetError(f"{source} is a folder: give the CSV file.")
    text = read_text(source)
    if set(MD_AI) <= set(columns_of(text)):
        yield from read_md_ai(source, text, images, options)
        return
    columns = _columns(source, columns_of(text), options)
    rows: dict[Path, list[tuple[str, dict[str, str]]]] = {}
    first: dict[Path, tuple[str, dict[str, str]]] = {}
    for line, row in read_table(source, text):
        where = f"{source}, line {line}"
        if not row[columns.file]:
            raise DatasetError(f"{where}: it names no image.")
        image = images.find([row[columns.file]], where)
        facts = {fact: row[column] for fact, column in columns.facts.items() if row[column]}
        place, known = first.setdefault(image, (where, facts))
        if known != facts:
            raise DatasetError(f"{where}: it says other things of the image {row[columns.file]} than {place}.")
        theirs = rows.setdefault(image, [])
        if _has_box(where, row, columns):
            theirs.append((where, row))
    if not first:
        raise DatasetError(f"{source} has no rows.")
    for image, (where, facts) in first.items():
        # a row without a box says that there is none
        silence = options.silence_or(Silence.NEGATIVE)
        marks = account(rows[image], partial(_box, columns=columns, options=options), silence)
        yield LabelledFile(image, where, marks, facts=facts)


def _columns(source: Path, there: Sequence[str], options: ReadOptions) -> _Columns:
    edges = next((names for names in _EDGES if set(names) <= set(there)), None)
    sizes = next((names for names in _SIZES if set(names) <= set(there)), None)
    file = next((name for name in FILE_COLUMNS if name in there), None)
    asked = (options.label_key.strip().lower(),) if options.label_key else _LABEL
    label = next((name for name in asked if name in there), None)
    box = edges or sizes
    if file is None:
        raise DatasetError(f"{source}, line 1: a column 'file_name' is missing; there are {', '.join(there)}.")
    if box is None:
        raise DatasetError(
            f"{source}, line 1: columns of a box are missing, x0, y0, x1, y1 or x, y, width, height; there are "
            f"{', '.join(there)}."
        )
    if label is None and options.label is None:
        raise DatasetError(
            f"{source}, line 1: a column {asked[0]!r} is missing; there are {', '.join(there)}. Name the one label of "
            "all boxes with --label."
        )
    facts = {fact: name for fact, names in FACTS.items() for name in names if name in there}
    used = {file, label, *box, *facts.values()}
    return _Columns(file, label, box, edges is not None, facts, tuple(name for name in there if name not in used))


def _has_box(where: str, row: dict[str, str], columns: _Columns) -> bool:
    if any(row[name] for name in columns.box):
        return True
    if columns.label and row[columns.label]:
        raise DatasetError(f"{where}: a label, {row[columns.label][:40]!r}, but no box; was the row cut off?")
    return False


def _box(where: str, row: dict[str, str], columns: _Columns, options: ReadOptions) -> ImportedBox:
    a, b, c, d = (number(where, name, row[name]) for name in columns.box)
    if columns.box_is_edges and (c <= a or d <= b):
        raise DatasetError(f"{where}: the box {a:g}, {b:g}, {c:g}, {d:g} has no area, or its corners are swapped.")
    label = (row[columns.label] if columns.label else "") or options.label
    if not label:
        raise DatasetError(f"{where}: the box has no label.")
    attributes = {name: row[name] for name in columns.attributes if row[name]}
    edges = (a, b, c, d) if columns.box_is_edges else (a, b, a + c, b + d)
    return rectangle(edges, label, attributes=attributes)


TABLE = "images.csv"
"""The table that an export writes beside formats which know boxes only."""


def read_facts(path: Path, images: ImageFolder) -> dict[Path, dict[str, str]]:
    """What a table says of each image, by the names of the index.

    Raises
    ------
    DatasetError
        If it names no images, knows none of the columns, or speaks of one image twice or of one that is not there.
    """
    text = read_text(path)
    there = columns_of(text)
    file = next((name for name in FILE_COLUMNS if name in there), None)
    columns = {fact: name for fact, names in FACTS.items() for name in names if name in there}
    if file is None:
        raise DatasetError(f"{path}, line 1: a column 'file_name' is missing; there are {', '.join(there)}.")
    if not columns:
        raise DatasetError(f"{path}, line 1: none of the columns {', '.join(FACTS)} is there.")
    found: dict[Path, dict[str, str]] = {}
    for line, row in read_table(path, text):
        where = f"{path}, line {line}"
        image = images.find([row[file]], where)
        if image in found:
            raise DatasetError(f"{where}: a row for {row[file]} was there before.")
        found[image] = {fact: row[column] for fact, column in columns.items() if row[column]}
    return found


def facts_of(image: AnnotatedImage) -> dict[str, str]:
    """What a data set says of an image, by the names of the index; empty texts for what it does not say."""
    nested = image.facts.get("attributes")
    said: Mapping[str, object] = {**(nested if isinstance(nested, dict) else {}), **image.facts}
    known = {
        "patient": image.patient, "study": said.get("study_id"), "laterality": image.laterality, "view": image.view,
        **{name: said.get(name) for name in ("density", "pathology", "scanner", "spacing_mm")}, "split": image.split,
        "review": None if image.review is ReviewState.ANNOTATED else image.review,
    }  # fmt: skip
    return {name: "" if value is None else str(value) for name, value in known.items()}


def write_facts(path: Path, images: Iterable[tuple[str, AnnotatedImage]]) -> None:
    """Write the table that `read_facts` reads, of images under the names that they have there."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", *FACTS])
        writer.writeheader()
        for name, image in images:
            writer.writerow({key: csv_cell(v) for key, v in {"file_name": name, **facts_of(image)}.items()})
