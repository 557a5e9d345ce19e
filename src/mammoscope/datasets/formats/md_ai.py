"""MD.ai's export as CSV: a row an annotation, images by their SOP Instance UID, shapes as JSON in one cell.

https://docs.md.ai/annotator/data/export-annotations/: ``data`` holds ``{"x", "y", "width", "height"}`` of a box or
``{"vertices": [[x, y], ...]}`` of an outline, in pixels of the image; a label of the whole image has none.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.base import (
    ImageFolder,
    LabelledFile,
    ReadOptions,
    outlined,
    rectangle,
    says_normal,
)
from mammoscope.datasets.formats.parsing import number, numbers, read_json_text, read_table
from mammoscope.datasets.image_marks import ImportedBox, PassedOverError, Silence, UnknownMarkError, account

COLUMNS = ("sopinstanceuid", "labelname", "data")
"""By which such a table is known; columns in lower case."""
_Row = Mapping[str, str]


def read_md_ai(source: Path, text: str, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read the table. An image without a shape is negative only where a label of the whole image says so."""
    rows: dict[Path, list[tuple[str, _Row]]] = {}
    for line, row in read_table(source, text):
        where = f"{source}, line {line}"
        if uid := row["sopinstanceuid"]:  # rows of a study or a series are about no image alone
            rows.setdefault(images.find_instance(uid, where), []).append((where, row))
    if not rows:
        raise DatasetError(f"{source} has no row about an image.")
    for image, theirs in rows.items():
        shapes = [(where, row) for where, row in theirs if row["data"] not in ("", "null", "{}")]
        words = [row["labelname"] for _, row in theirs if row["data"] in ("", "null", "{}") and row["labelname"]]
        of_image = dict.fromkeys(words, "yes")
        silence = options.silence_or(Silence.NEGATIVE if says_normal(of_image) else Silence.UNANNOTATED)
        marks = account(shapes, partial(_box, source=source, options=options), silence)
        facts = {"study": study} if (study := theirs[0][1].get("studyinstanceuid")) else {}
        yield LabelledFile(image, theirs[0][0], marks, facts=facts, attributes=of_image)


def _box(where: str, row: _Row, source: Path, options: ReadOptions) -> ImportedBox:
    shape = read_json_text(source, row["data"].replace("'", '"'))
    mode = row.get("annotationmode", "")
    label = row["labelname"] or options.label
    if not label:
        raise DatasetError(f"{where}: the annotation has no labelName.")
    if not isinstance(shape, dict):
        raise UnknownMarkError("data that are no JSON object")
    if "vertices" in shape:
        if mode == "line":
            raise PassedOverError("a line, which has no area")
        corners: list[Any] = [numbers(where, "a corner", corner) for corner in shape["vertices"]]
        return outlined([(x, y) for x, y in corners], label)
    if {"x", "y", "width", "height"} <= set(shape):
        x, y, width, height = (number(where, key, shape[key]) for key in ("x", "y", "width", "height"))
        return rectangle((x, y, x + width, y + height), label)
    if {"x", "y"} <= set(shape):
        raise PassedOverError("a location, which has no area")
    raise UnknownMarkError(f"a shape of the mode {mode[:20]!r}")
