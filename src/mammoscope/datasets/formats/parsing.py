"""Reading annotation files of people and programs: texts, tables, numbers, each fault with its line."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked
from mammoscope.untrusted_text import csv_text

_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a mark, or in UTF-16 with one.

    Raises
    ------
    DatasetError
        If it is missing, an archive or a folder, or in another encoding: which line shows that.
    """
    check_unpacked(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist.") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return content.decode("utf-16")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path}, line {line}: this is not UTF-8 text; save the file as UTF-8.") from None


def read_json_text(path: Path, text: str) -> Any:
    """JSON from a text.

    Raises
    ------
    DatasetError
        If it is none, or was cut off: which line.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}, line {error.lineno}: this is not valid JSON: {error.msg}.") from None
    except (RecursionError, ValueError):
        raise DatasetError(f"{path} is not JSON that can be read.") from None


def read_table(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, values by column) of each row of a CSV text with a head; columns in lower case, empty rows left out.

    The separator is that of the head: comma, semicolon or tab.

    Raises
    ------
    DatasetError
        If a row has more values than there are columns, or the text is no CSV.
    """
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        for row in reader:
            if not any(value.strip() for value in row):
                continue
            if len(row) > len(columns):
                raise DatasetError(
                    f"{path}, line {reader.line_num}: {len(row)} values for {len(columns)} columns; is there a decimal "
                    "comma, or a comma in a text without quotes?"
                )
            padded = [*row, *[""] * (len(columns) - len(row))]
            yield reader.line_num, {name: csv_text(value) for name, value in zip(columns, padded, strict=True)}
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num}: this is not CSV: {error}.") from None


def columns_of(text: str) -> list[str]:
    """The columns of a CSV text, in lower case."""
    head = text.split("\n", 1)[0].rstrip("\r")
    separator = max(",;\t", key=head.count)
    return [name.strip().lower() for name in next(csv.reader([head], delimiter=separator), [])]


def number(where: str, what: str, text: object) -> float:
    """A finite number from a text.

    Raises
    ------
    DatasetError
        If it is none: where, and what it was to be.
    """
    if isinstance(text, str) and _DECIMAL_COMMA.fullmatch(text.strip()):
        raise DatasetError(f"{where}: {what} is {text.strip()!r}: write the decimal point as a point, not a comma.")
    try:
        value = float(text) if isinstance(text, str | int | float) and not isinstance(text, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise DatasetError(f"{where}: {what} is {str(text)[:40]!r}, which is not a number.")
    return value


def numbers(where: str, what: str, texts: object) -> list[float]:
    """Several of them."""
    if not isinstance(texts, Sequence) or isinstance(texts, str):
        raise DatasetError(f"{where}: {what} is not a list of numbers.")
    return [number(where, what, text) for text in texts]


def member(where: str, container: object, key: str) -> Any:
    """A value of a JSON object.

    Raises
    ------
    DatasetError
        If it is not there.
    """
    if not isinstance(container, Mapping) or key not in container:
        raise DatasetError(f"{where}: {key!r} is missing.")
    return container[key]
