import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoscope.untrusted_text import cleaned, csv_cell, csv_text, lines, one_line, without_secrets


@given(st.text(max_size=300))
def test_a_line_prints_and_is_one(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    line.encode()  # no lone surrogates
    assert not {"Cc", "Cf", "Cs", "Zl", "Zp"} & {unicodedata.category(c) for c in line}


def test_what_a_terminal_acts_on_is_written_as_its_escape() -> None:
    assert one_line("DOE\x1b]0;x\x07\r\n2026 forged\x9b31m") == r"DOE\x1b]0;x\x07\r\n2026 forged\x9b31m"
    assert one_line("a\u202eb\u2028c\udcff") == r"a\u202eb\u2028c\udcff"
    assert one_line("Größe 日本") == "Größe 日本"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert one_line("x" * 5000, 10) == "xxxxxxxxxx..."


def test_lines_stay_lines() -> None:
    assert lines("a\nb\x1bc") == "a\nb\\x1bc"


@given(st.text(max_size=50))
def test_no_cell_begins_like_a_formula_unless_it_is_a_number(text: str) -> None:
    cell = str(csv_cell(text))
    if cell.lstrip(" ")[:1] in tuple("=+-@"):
        float(cell)


@pytest.mark.parametrize("formula", ["=1+1", "+A1", "-A1", "@SUM(A1)", '=HYPERLINK("http://x","y")', " =1"])
def test_a_formula_is_neutralised_and_comes_back_as_it_was(formula: str) -> None:
    assert str(csv_cell(formula)).startswith("'")
    assert csv_text(str(csv_cell(formula))) == formula.strip() or csv_text(str(csv_cell(formula))) == formula


@pytest.mark.parametrize("value", ["-1.5", "+3", "1e-3", "-2.5e+10", "LMLO", "", 7, None])
def test_what_is_no_formula_stays(value: object) -> None:
    assert csv_cell(value) == value


def test_a_log_line_is_cleaned_to_any_depth() -> None:
    assert cleaned({"a": ["x\n", {"b": ("y\x1b", 3)}], "c": None}) == {"a": ["x\\n", {"b": ["y\\x1b", 3]}], "c": None}


def test_secrets_of_addresses_are_hidden() -> None:
    for url in (
        "postgresql://node:hu@sh@host/db",
        "postgresql://host/db?password=hush&x=1",
        "https://pacs/dicom-web?access_token=hush",
    ):
        assert "hush" not in without_secrets(url)
        assert "hu@sh" not in without_secrets(url)
