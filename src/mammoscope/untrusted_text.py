"""Text that came from elsewhere (peers, headers, file names, users) made safe to show.

In come strings of any content; out go strings of one line, of bounded length, without characters that a terminal, a log
viewer or a spreadsheet acts on. Every place that shows such text uses these functions: log, terminal, audit trail, CSV
tables and pages.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

LONGEST = 2000
"""Characters of one text that are shown."""

_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Unicode's categories of control and format characters, lone surrogates, private and unassigned ones, line ends."""
_FORMULA = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_PASSWORD_IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/]+@")
_SECRET_IN_QUERY = re.compile(r"([?&;][^\s=&;]*(?:pass|token|secret|key|auth)[^\s=&;]*=)[^\s&;'\"]+", re.IGNORECASE)


def one_line(text: object, longest: int = LONGEST) -> str:
    r"""Give a text in one line, with every character that does not print written as its escape.

    Parameters
    ----------
    text
        What to show; anything that is no string by its ``str``.
    longest
        Characters kept; what is cut off is told by "...".

    Examples
    --------
    >>> one_line("DOE\x1b[2J\nforged line")
    'DOE\\x1b[2J\\nforged line'
    """
    text = str(text)
    cut = len(text) > longest
    kept = text[:longest]
    if not kept.isprintable():
        kept = "".join(_escaped(c) if unicodedata.category(c) in _INVISIBLE else c for c in kept)
    return f"{kept}..." if cut else kept


def lines(text: str, longest: int = LONGEST) -> str:
    """Give a text of several lines, each as by `one_line`."""
    return "\n".join(one_line(line, longest) for line in text.split("\n"))


def csv_cell(value: object) -> object:
    """Give a value as a cell of a CSV table that no spreadsheet takes for a formula.

    A text that begins like a formula and is no number gets an apostrophe before it, as OWASP recommends against "CSV
    injection"; other values stay as they are.
    """
    if not isinstance(value, str):
        return value
    text = one_line(value)
    is_formula = text.lstrip(" ").startswith(_FORMULA) or value[:1] in ("\t", "\r", "\n")
    return f"'{text}" if is_formula and not _NUMBER.fullmatch(text) else text


def csv_text(cell: str) -> str:
    """Give the text of a cell, its spaces stripped, without the apostrophe that `csv_cell` put before a formula."""
    text = cell.strip()
    return text[1:] if text[:1] == "'" and text[1:].lstrip(" ").startswith(_FORMULA) else text


def cleaned(value: Any) -> Any:
    """Give a value of a log or audit line with every text in it as by `one_line`, to any depth."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, Mapping):
        return {one_line(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(item) for item in value]
    return value


def without_secrets(text: str) -> str:
    """Give a text in which the passwords and tokens of addresses are replaced by ``***``.

    Examples
    --------
    >>> without_secrets("postgresql://node:hush@host/db?sslpassword=hush&x=1")
    'postgresql://node:***@host/db?sslpassword=***&x=1'
    """
    return _SECRET_IN_QUERY.sub(r"\1***", _PASSWORD_IN_URL.sub(r"\1***@", text))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
