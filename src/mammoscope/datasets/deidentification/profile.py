"""What Annex E of DICOM PS3.15 asks of each attribute (table E.1-1, in `annex_e.csv` beside this file).

New values for old ones: dates moved, dummies, and values that are not what their representation says.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum, StrEnum, auto
from functools import cache
from importlib.resources import files
from typing import Any


class Keep(StrEnum):
    """Options of the profile that keep more than the Basic Application Level Confidentiality Profile does."""

    DATES_SHIFTED = "dates-shifted"
    """Retain Longitudinal Temporal Information Modified Dates."""
    DEVICE = "device"
    """Retain Device Identity."""
    PATIENT = "patient"
    """Retain Patient Characteristics."""


class Action(Enum):
    """What becomes of one element."""

    REMOVE = auto()
    EMPTY = auto()
    DUMMY = auto()
    """A value of the same kind that says nothing."""
    UID = auto()
    SHIFT = auto()
    """A date moved by the patient's number of days."""
    CLEAN = auto()
    """Known words of mammography stay, everything else goes."""
    KEEP = auto()


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of table E.1-1: the basic profile's action code and those of the options, empty where there is none."""

    basic: str
    dates_modified: str
    device: str
    patient: str
    descriptors: str


_BASIC = {
    "X": Action.REMOVE,
    "Z": Action.EMPTY,
    "X/Z": Action.EMPTY,
    "U": Action.UID,
    "X/Z/U*": Action.UID,
    # Where the choice depends on the object's type of attribute, a dummy is right for each of them
    "D": Action.DUMMY,
    "X/D": Action.DUMMY,
    "Z/D": Action.DUMMY,
    "X/Z/D": Action.DUMMY,
}
_DATES = frozenset(("DA", "TM", "DT"))
_WORDS = frozenset(("LO", "SH", "ST", "LT", "UT", "UC", "CS"))
_FREE_TEXT = frozenset(("LT", "ST", "UT", "PN", "UN"))


@cache
def rules() -> Mapping[int, Rule]:
    """Table E.1-1 by tag, without its four repeating groups and ranges (private, curves, overlays)."""
    text = (files("mammoscope.datasets.deidentification") / "annex_e.csv").read_text("utf-8")
    return {
        int(row["tag"], 16): Rule(
            row["basic"], row["dates_modified"], row["device"], row["patient"], row["descriptors"]
        )
        for row in csv.DictReader(text.splitlines())
    }


def action(tag: int, vr: str, keep: frozenset[Keep]) -> Action:
    """What becomes of a standard element.

    Stricter than the table where it is silent: dates follow the dates' rule, person names and long free text are
    removed.

    Parameters
    ----------
    vr
        The element's value representation.
    """
    rule = rules().get(tag)
    if vr in _DATES and Keep.DATES_SHIFTED in keep and (rule is None or rule.dates_modified):
        return Action.SHIFT
    if rule is None:
        return _unlisted(vr)
    if vr in _DATES:  # the date of a calibration is a date before it is the device's
        return _BASIC[rule.basic]
    if (Keep.DEVICE in keep and rule.device == "K") or (Keep.PATIENT in keep and rule.patient == "K"):
        return Action.KEEP
    if rule.descriptors and vr in _WORDS:
        return Action.CLEAN
    return _BASIC[rule.basic]


def basic_action(tag: int) -> Action:
    """What the basic profile alone does."""
    rule = rules().get(tag)
    return Action.REMOVE if rule is None else _BASIC[rule.basic]


def _unlisted(vr: str) -> Action:
    if vr == "UI":
        return Action.UID
    return Action.REMOVE if vr in _DATES or vr in _FREE_TEXT else Action.KEEP


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
