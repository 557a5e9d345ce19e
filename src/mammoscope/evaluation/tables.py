"""A table of figures as plain text, Markdown, LaTeX or HTML."""

import html
import re
import textwrap
from dataclasses import dataclass
from enum import StrEnum

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}
_MINUS = re.compile(r"(?<!\w)-(?=\d)")  # before a number, LaTeX would set a hyphen
_CAPTION_WIDTH = 120


class TableFormat(StrEnum):
    """How a table is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    LATEX = "latex"
    HTML = "html"


@dataclass(frozen=True, slots=True)
class FigureTable:
    """A caption, a header and rows of as many cells; the first column names, the others hold figures."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def written(self, form: TableFormat) -> str:
        """The table in that format, ending with a line break."""
        writer = {
            TableFormat.TEXT: self._text,
            TableFormat.MARKDOWN: self._markdown,
            TableFormat.LATEX: self._latex,
            TableFormat.HTML: self._html,
        }[form]
        return "\n".join(writer()) + "\n"

    def _text(self) -> list[str]:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]

        def line(cells: tuple[str, ...]) -> str:
            first, *others = (
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            return "  ".join([first, *others]).rstrip()

        return [
            *textwrap.wrap(self.caption, _CAPTION_WIDTH),
            "",
            line(self.header),
            line(tuple("-" * width for width in widths)),
            *map(line, self.rows),
        ]

    def _markdown(self) -> list[str]:
        def line(cells: tuple[str, ...]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        return [self.caption, "", line(self.header), line(("---", *["---:"] * (len(self.header) - 1))),
                *map(line, self.rows)]  # fmt: skip

    def _latex(self) -> list[str]:
        def line(cells: tuple[str, ...]) -> str:
            return " & ".join(_MINUS.sub("$-$", _in_latex(cell)) for cell in cells) + r" \\"

        columns = "l" + "r" * (len(self.header) - 1)
        return [r"\begin{table}", rf"\caption{{{_in_latex(self.caption)}}}",
                rf"\begin{{tabular}}{{{columns}}}", r"\hline",
                line(self.header), r"\hline", *map(line, self.rows), r"\hline", r"\end{tabular}",
                r"\end{table}"]  # fmt: skip

    def _html(self) -> list[str]:
        def line(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        head = line(self.header, "th")
        return ["<table>", f"<caption>{html.escape(self.caption)}</caption>", f"<thead>{head}</thead>",
                "<tbody>", *(line(row, "td") for row in self.rows), "</tbody>", "</table>"]  # fmt: skip


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
