from html.parser import HTMLParser

import pytest

from mammoscope.evaluation import FigureTable, TableFormat

TABLE = FigureTable("All & more", ("Model", "F1"), (("r50_fpn <b>", "0.5"), ("x|y", "0.25 (0.1 to 0.4)")))


def test_text_is_aligned():
    assert TABLE.written(TableFormat.TEXT) == (
        "All & more\n\n"
        "Model                       F1\n"
        "-----------  -----------------\n"
        "r50_fpn <b>                0.5\n"
        "x|y          0.25 (0.1 to 0.4)\n"
    )


def test_markdown():
    assert TABLE.written(TableFormat.MARKDOWN).splitlines()[2:] == [
        "| Model | F1 |", "| --- | ---: |", "| r50_fpn <b> | 0.5 |", "| x\\|y | 0.25 (0.1 to 0.4) |",
    ]  # fmt: skip


def test_latex_escapes_its_signs():
    lines = TABLE.written(TableFormat.LATEX).splitlines()
    assert r"r50\_fpn <b> & 0.5 \\" in lines
    assert r"\caption{All \& more}" in lines
    assert lines[0] == r"\begin{table}"
    assert lines[-1] == r"\end{table}"


def test_html_shows_a_name_as_it_is():
    cells = []

    class Cells(HTMLParser):
        def handle_data(self, data):
            cells.append(data)

    Cells().feed(TABLE.written(TableFormat.HTML))
    assert [cell for cell in cells if cell.strip()] == [
        "All & more", "Model", "F1", "r50_fpn <b>", "0.5", "x|y", "0.25 (0.1 to 0.4)",
    ]  # fmt: skip


@pytest.mark.parametrize("form", list(TableFormat))
def test_every_format_ends_with_a_line(form):
    assert TABLE.written(form).endswith("\n")
