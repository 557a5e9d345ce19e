"""Tables of a collection: CSV as it left a spreadsheet, XLSX and XLS, with the line of whatever is wrong.

The first sheet of an XLS or XLSX file, as rows of text.
"""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mammoscope.datasets.errors import DatasetError

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How an XLS file begins."""
ZIP = b"PK\x03\x04"
"""How an XLSX file begins."""


def xlsx_rows(path: Path, data: bytes) -> list[list[str]]:
    """Rows of an XLSX file; `DatasetError` where it is none or cut."""
    import openpyxl

    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        rows = list(book.worksheets[0].iter_rows(values_only=True))
    except Exception as error:  # openpyxl raises what the damaged bytes lead to
        raise DatasetError(f"{path} is not a whole XLSX file: copy it again from its source.") from error
    return [[_cell(value) for value in row] for row in rows]


def xls_rows(path: Path, data: bytes) -> list[list[str]]:
    """Rows of an XLS file; `DatasetError` where it is none or cut."""
    import xlrd

    try:
        sheet = xlrd.open_workbook(file_contents=data).sheet_by_index(0)
    except Exception as error:  # xlrd raises what the damaged bytes lead to
        raise DatasetError(f"{path} is not a whole XLS file: copy it again from its source.") from error
    return [[_cell(value) for value in sheet.row_values(row)] for row in range(sheet.nrows)]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():  # spreadsheets keep 22678622 as 22678622.0
        return str(int(value))
    return " ".join(str(value).split())


_DELIMITERS = (",", ";", "\t")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells by column, as text without blanks around it, and the line where it begins."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[key(column)]

    def get(self, column: str) -> str:
        """The cell, or nothing where the table has no such column."""
        return self.cells.get(key(column), "")

    def said(self, columns: Mapping[str, str]) -> dict[str, str]:
        """The cells that say something, by the names given for their columns."""
        return {name: value for column, name in columns.items() if (value := self.get(column)) not in ("", "nan", "-")}

    def number(self, column: str) -> float:
        """A cell as a finite number.

        Raises
        ------
        DatasetError
            If it is none; a decimal comma is said to be one.
        """
        text = self[column]
        try:
            value = float(text)
        except ValueError:
            if _DECIMAL_COMMA.fullmatch(text):
                raise self.error(
                    f"{text!r} in column {column!r} has a decimal comma: save the table with decimal points"
                ) from None
            raise self.error(f"{text[:30]!r} in column {column!r} is not a number") from None
        if not math.isfinite(value):
            raise self.error(f"{text!r} in column {column!r} is not a finite number")
        return value

    def needed(self, column: str) -> str:
        """A cell that must not be empty."""
        if not (text := self[column]):
            raise self.error(f"column {column!r} is empty")
        return text

    def error(self, what: str) -> DatasetError:
        """An error that names the file and the line."""
        return DatasetError(f"{self.path}, line {self.line}: {what}.")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its header; `columns` as they are written."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def has(self, column: str) -> bool:
        """Whether it has that column, whatever the case and the blanks around its name."""
        return key(column) in {key(name) for name in self.columns}

    def require(self, columns: Sequence[str], title: str) -> "Table":
        """Itself, if it has those columns.

        Raises
        ------
        DatasetError
            If one is missing.
        """
        for column in columns:
            if not self.has(column):
                raise DatasetError(
                    f"{self.path}, line 1: this {title} has no column {column!r}; it has {', '.join(self.columns)}: "
                    "take the table as its owner distributes it."
                )
        return self


def key(column: str) -> str:
    """A column's name as compared: some tables have blanks after names, and spreadsheets change case."""
    return " ".join(column.split()).casefold()


def is_spreadsheet(start: bytes) -> bool:
    """Whether a file that begins so may be XLS or XLSX."""
    return start.startswith((OLE, ZIP))


def header_of(path: Path) -> tuple[str, ...]:
    """The names of a table's columns; none where it is no table that can be read."""
    try:
        return next(((*names,) for _, names in _lines(path)), ())
    except DatasetError:
        return ()


def read_table(path: Path, keep: Sequence[str] | None = None) -> Table:
    """Read a table; rows without any text are passed over.

    Parameters
    ----------
    keep
        Columns whose cells are kept, where the table has them; all by default. Some tables have a hundred columns and
        half a million rows.

    Raises
    ------
    DatasetError
        If it cannot be read, is not UTF-8 text, has no header or a row with more cells than the header.
    """
    lines = _lines(path)
    columns = next(((*names,) for _, names in lines), ())
    if not columns:
        raise DatasetError(f"{path} is empty: copy it again from its source.")
    names = [key(column) for column in columns]
    wanted = set(names) if keep is None else set(map(key, keep))
    kept = [(place, name) for place, name in enumerate(names) if name in wanted]
    rows = []
    for line, cells in lines:
        if len(cells) > len(names) and any(cells[len(names) :]):
            raise DatasetError(
                f"{path}, line {line}: {len(cells)} cells where the header has {len(names)} columns; if numbers have "
                "decimal commas, save the table with decimal points."
            )
        if any(cells):
            rows.append(Row(path, line, {name: cells[place] if place < len(cells) else "" for place, name in kept}))
    return Table(path, columns, tuple(rows))


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row of a sheet, or of a text with commas, semicolons, tabs or blanks between cells.

    For tables that have no header to be known by.

    Raises
    ------
    DatasetError
        If it cannot be read or is not UTF-8 text.
    """
    data = _bytes(path)
    if data.startswith(OLE):
        sheet = xls_rows(path, data)
    elif data.startswith(ZIP):
        sheet = xlsx_rows(path, data)
    else:
        sheet = [re.split(r"\s*[,;\t]\s*|\s+", line.strip()) for line in text_of(path, data).splitlines()]
    for line, cells in enumerate(sheet, 1):
        while cells and not cells[-1]:
            cells.pop()
        yield line, cells


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) from the header on."""
    start = _start(path)
    if start.startswith(OLE):
        return _from_header(xls_rows(path, _bytes(path)))
    if start.startswith(ZIP):
        return _from_header(xlsx_rows(path, _bytes(path)))
    if start.startswith(_UTF_16):
        raise DatasetError(f"{path}, line 1: this is UTF-16 text: save the table as UTF-8.")
    if b"\0" in start:
        raise DatasetError(f"{path} is not a CSV file.")
    return _csv(path)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None


def text_of(path: Path, data: bytes) -> str:
    """UTF-8 text, with or without a byte order mark.

    Raises
    ------
    DatasetError
        If it is another encoding, with the first line that shows it.
    """
    if data.startswith(_UTF_16):
        raise DatasetError(f"{path}, line 1: this is UTF-16 text: save the table as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{path}, line {line}: the text is not UTF-8: save the table as UTF-8.") from None


def _csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read row by row: some tables are larger than memory should hold twice."""
    known: dict[str, str] = {}
    begun = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(_DELIMITERS, key=first.count))
            for cells in reader:
                # most cells repeat: one string for all that say the same
                yield begun, [known.setdefault(text, text) for text in (" ".join(cell.split()) for cell in cells)]
                begun = reader.line_num + 1
    except UnicodeDecodeError:
        text_of(path, _bytes(path))  # says the line
        raise
    except csv.Error as error:
        raise DatasetError(f"{path}, line {begun}: this is not CSV: {error}.") from None


def _from_header(rows: list[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """The rows of a sheet from the first with two names on: some sheets have a title above."""
    start = next((n for n, row in enumerate(rows) if sum(map(bool, row)) > 1), len(rows))
    width = max((n + 1 for n, name in enumerate(rows[start]) if name), default=0) if start < len(rows) else 0
    for line, row in enumerate(rows[start:], start + 1):
        yield line, row[:width]
