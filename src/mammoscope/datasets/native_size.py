"""Undoing a stretch: images that were forced into another shape get back the aspect of their native image."""

import csv
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammoscope.datasets.errors import DatasetError

_COLUMNS = ("file_name", "est_native_rows", "est_native_cols", "est_aspect_cols_over_rows")


@dataclass(frozen=True, slots=True)
class NativeSize:
    """What is known of the image before it was stretched; ``median`` says that only its siblings are known."""

    aspect: float
    rows: int | None = None
    columns: int | None = None
    median: bool = False

    def unstretched(self, rows: int, columns: int) -> tuple[int, int]:
        """(rows, columns) with the native aspect in which neither dimension loses pixels."""
        if self.aspect < columns / rows:
            return round(columns / self.aspect), columns
        return rows, round(rows * self.aspect)

    def to_json(self) -> dict[str, Any]:
        """As kept per image in the data set."""
        return {
            "rows": self.rows,
            "columns": self.columns,
            "aspect_columns_over_rows": self.aspect,
            "aspect_from": "median of the other images" if self.median else "native size",
        }


def read_native_sizes(path: Path) -> dict[str, NativeSize]:
    """Native sizes by file name from a CSV file.

    Parameters
    ----------
    path
        With the columns ``file_name``, ``est_native_rows``, ``est_native_cols``, ``est_aspect_cols_over_rows``. Where
        the three figures are empty, the image gets the median aspect of the others.

    Raises
    ------
    DatasetError
        If a column is missing, a figure is not a positive number, a file is there twice, or no row holds a figure.
    """
    known: dict[str, NativeSize] = {}
    unknown: list[str] = []
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{path} has no column {missing[0]}; it needs {', '.join(_COLUMNS)}.")
            for row in reader:
                name = row["file_name"]
                if not name:
                    raise DatasetError(f"{path}, line {reader.line_num}: no file_name.")
                if name in known or name in unknown:
                    raise DatasetError(f"{path}, line {reader.line_num}: {name} is there twice.")
                figures = [row[column] for column in _COLUMNS[1:]]
                if any(figure and figure.strip() for figure in figures):
                    rows, columns, aspect = (_positive(path, reader.line_num, figure) for figure in figures)
                    known[name] = NativeSize(aspect, round(rows), round(columns))
                else:
                    unknown.append(name)
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist.") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise DatasetError(f"{path} is not a CSV file in UTF-8.") from None
    if not known:
        raise DatasetError(f"{path} holds no native size at all.")
    median = statistics.median(size.aspect for size in known.values())
    return known | {name: NativeSize(median, median=True) for name in unknown}


def unstretch(source: Path, target: Path, rows: int, columns: int) -> None:
    """Resize an image file to that size and write it as PNG.

    PNG, not JPEG: the stretched copies already went through JPEG once, and a second loss would add blocks of another
    size to the texture that a detector learns from. Depth (8 or 16 bits) is kept. Enlarging is bicubic, shrinking
    (which `NativeSize.unstretched` never asks for) by area.

    Raises
    ------
    DatasetError
        If the pixels cannot be decoded or written.
    """
    try:
        pixels = cv2.imdecode(np.fromfile(source, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DatasetError(f"{source} cannot be un-stretched: its pixels cannot be decoded.")
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels[:, :, :3], cv2.COLOR_BGR2GRAY)
    shrinks = rows < pixels.shape[0] or columns < pixels.shape[1]
    resized = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    _, encoded = cv2.imencode(".png", resized)
    target.write_bytes(encoded.tobytes())


def _positive(path: Path, line: int, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise DatasetError(f"{path}, line {line}: {text!r} is not a positive number (with a decimal point).")
    return value
