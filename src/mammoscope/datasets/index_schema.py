"""The columns of the index: those that every data set has, and one for each attribute that images of this one have."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

FIXED = {
    "id": "int64",
    "file_name": "string",
    "rows": "int32",
    "columns": "int32",
    "patient": "string",
    "study": "string",
    "laterality": "string",
    "view": "string",
    "scanner": "string",
    "spacing_mm": "float64",
    "density": "int8",
    "pathology": "string",
    "split": "string",
    "fold": "int16",
    "review": "string",
    "n_boxes": "int32",
    "n_crowds": "int32",
    "labels": "list string",
    "box_sides": "list float32",
    "boxes_hash": "string",
    "origin": "string",
    "file_bytes": "int64",
    "file_mtime_ns": "int64",
    "file_sha256": "string",
    "pixel_sha256": "string",
}
"""Column and Arrow type. ``box_sides``: of each box the root of its share of the image, in percent."""

_DENSITY = re.compile(r"(?:BI-?RADS\s*|DENSITY\s*)*([A-D1-4])(?:\.0)?", re.IGNORECASE)


def density_of(value: object) -> int | None:
    """BI-RADS density 1 to 4 from ``3``, ``"3"``, ``"C"`` or ``"DENSITY C"``; ``None`` for anything else."""
    match = _DENSITY.fullmatch(str(value).strip())
    if match is None:
        return None
    digit = match[1].upper()
    return int(digit) if digit.isdigit() else "ABCD".index(digit) + 1


def attribute_columns(facts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A column for each key of the images' ``attributes`` that has none of its own, by name.

    A column whose values are all numbers, also when written as text, holds numbers; one of truth values, these; any
    other holds texts. ``None`` where an image has no such attribute.
    """
    rows = [nested if isinstance(nested := fact.get("attributes"), dict) else {} for fact in facts]
    names = sorted({str(name) for row in rows for name in row} - set(FIXED))
    columns = {name: _typed([row.get(name) for row in rows]) for name in names}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _typed(values: list[Any]) -> list[Any]:
    plain = [value if isinstance(value, str | int | float) and str(value).strip() else None for value in values]
    there = [value for value in plain if value is not None]
    if all(isinstance(value, bool) for value in there):
        return plain
    numbers = [None if value is None else _as_number(value) for value in plain]
    if sum(number is not None for number in numbers) == len(there):
        whole = all(number is None or number == int(number) for number in numbers)
        return [None if number is None else int(number) if whole else number for number in numbers]
    return [None if value is None else str(value).strip() for value in plain]


def _as_number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 2**53 else None
