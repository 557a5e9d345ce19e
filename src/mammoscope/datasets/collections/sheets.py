"""The first sheet of an XLS or XLSX file, as rows of text."""

import io
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
