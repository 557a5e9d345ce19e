"""New values for old ones: dates moved, dummies, and values that are not what their representation says."""

import re
from datetime import date, timedelta
from typing import Any

_DATE = re.compile(r"\d{8}|\d{4}\.\d{2}\.\d{2}")
_FORMS = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9_ ]{0,16}"),
    "DS": re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"),
    "IS": re.compile(r"\s*[+-]?\d{1,12}\s*"),
    "TM": re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)?\s*"),
    "UI": re.compile(r"[0-9.]{1,64}"),
}
_OLDEST_YEARS = 90


def well_formed(vr: str, text: str) -> bool:
    """Whether a text is what its value representation allows (PS3.5 6.2); always so for free text."""
    form = _FORMS.get(vr)
    return form is None or form.fullmatch(text) is not None


def shifted(text: str, vr: str, days: int) -> str | None:
    """A DA or DT value moved by whole days, or ``None`` where it is no date; a TM value stays.

    Of a DT the time of day stays as well. One without a day (``2024``) cannot be moved and is no date here.
    """
    if vr == "TM":
        return text if well_formed(vr, text) else None
    day, rest = (text[:8], text[8:]) if vr == "DT" else (text.strip(), "")
    if not _DATE.fullmatch(day) or not re.fullmatch(r"[\d.]*([+-]\d{4})?\s*", rest):
        return None
    try:
        moved = date.fromisoformat(day.replace(".", "")) + timedelta(days)
    except (ValueError, OverflowError):
        return None
    return f"{moved:%Y%m%d}{rest}" if moved.year >= 1000 else None


def capped_age(text: str) -> str:
    """A Patient's Age; from 90 years on it is ``090Y``, since so few are as old that it names them."""
    return "090Y" if text.endswith("Y") and int(text[:3]) > _OLDEST_YEARS else text


def dummy(vr: str) -> Any:
    """A value that says nothing (PS3.15 E.1.1, action D); ``None`` where the representation has none."""
    return {
        "DA": "19000101",
        "TM": "000000",
        "DT": "19000101000000",
        "AS": "000Y",
        "UR": "urn:removed",
        "OB": b"\0\0",
        "UN": b"\0\0",
    }.get(vr, "REMOVED" if vr in ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT") else None)
