"""What Annex E of DICOM PS3.15 asks of each attribute (table E.1-1, in `annex_e.csv` beside this file)."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from functools import cache
from importlib.resources import files


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
