import pytest

from mammoscope.datasets import DatasetError
from mammoscope.datasets.collections.tables import read_rows, read_table

TEXT = 'name,size,notes \na,1.5,ok\n\nb,2,"two\nlines"\nc,3,\n'


@pytest.fixture
def write(tmp_path):
    def make(data, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return make


def test_rows_know_the_line_where_they_begin(write):
    table = read_table(write(TEXT)).require(["NAME", "notes"], "table")
    assert [(row.line, row["name"], row["notes"]) for row in table.rows] == [
        (2, "a", "ok"), (4, "b", "two lines"), (6, "c", ""),
    ]  # fmt: skip
    assert table.rows[0].number("size") == 1.5


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_that_of_the_header(write, delimiter):
    assert read_table(write(TEXT.replace(",", delimiter))).rows[0]["size"] == "1.5"


def test_windows_line_ends_and_a_byte_order_mark_do_not_matter(write):
    table = read_table(write(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()))
    assert [row["name"] for row in table.rows] == ["a", "b", "c"]


def test_only_wanted_columns_are_kept(write):
    row = read_table(write(TEXT), ["size", "nowhere"]).rows[0]
    assert dict(row.cells) == {"size": "1.5"}
    assert row.get("nowhere") == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (TEXT.encode("utf-16"), "line 1: this is UTF-16 text: save the table as UTF-8"),
        (TEXT.replace("ok", "ö").encode("latin-1"), "line 2: the text is not UTF-8: save the table as UTF-8"),
        ("", "is empty"),
        ("name,size\na,1,5\n", "line 2: 3 cells where the header has 2 columns; if numbers have decimal commas"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 cut", "is not a whole XLS file"),
        (b"PK\x03\x04 cut", "is not a whole XLSX file"),
        (b"\0\0\0\0", "is not a CSV file"),
    ],
)
def test_what_is_no_table_is_said(write, data, said):
    with pytest.raises(DatasetError, match=said):
        read_table(write(data))


def test_a_missing_column_is_said_with_those_that_are_there(write):
    with pytest.raises(DatasetError, match="line 1: this list has no column 'weight'; it has name, size, notes"):
        read_table(write(TEXT)).require(["name", "weight"], "list")


@pytest.mark.parametrize("text", ["1,5", "x", "inf", "nan", ""])
def test_what_is_no_number_is_said_with_its_line(write, text):
    row = read_table(write(f'name,size\na,"{text}"\n')).rows[0]
    with pytest.raises(DatasetError, match=r"table.csv, line 2: .* in column 'size'"):
        row.number("size")


def test_sheets_begin_at_their_header_and_whole_numbers_stay_whole(lay):
    path = lay("x").xlsx("sheet.xlsx", [["A title"], [], ["name", "size"], ["a", 3.0], ["b", 4.25]])
    table = read_table(path)
    assert [(row.line, row["name"], row["size"]) for row in table.rows] == [(4, "a", "3"), (5, "b", "4.25")]


def test_old_sheets_are_read(root):
    """A sheet in the format that INbreast.xls has, written by xlwt: File Name 22678622, ACR 4, Bi-Rads 4a."""
    (row,) = read_table(root / "tests/datasets/collections/data/old.xls").rows
    assert (row.line, row["File Name"], row["ACR"], row["Bi-Rads"]) == (2, "22678622", "4", "4a")


def test_rows_of_texts_are_divided_by_blanks(write):
    assert list(read_rows(write("IMG001  CCRT G\nIMG002;x; y\n"))) == [
        (1, ["IMG001", "CCRT", "G"]), (2, ["IMG002", "x", "y"]),
    ]  # fmt: skip
