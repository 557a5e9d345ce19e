"""Which attributes of an image a rule may look at, and which rules can never apply."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

_TEXT = frozenset(("AE", "CS", "DS", "IS", "LO", "LT", "SH", "ST", "UC", "UI", "UT", "US"))
_PATIENT_GROUP = 0x0010
_ABOUT_THE_EXAMINATION = frozenset(("AccessionNumber", "StudyID", "StudyInstanceUID", "SOPInstanceUID"))

VALUES = {
    "PresentationIntentType": ("FOR PRESENTATION", "FOR PROCESSING"),
    "ImageLaterality": ("R", "L", "B"),
    "Modality": ("MG", "CR", "DX", "OT", "SC"),
    "PartialView": ("YES", "NO"),
    "BreastImplantPresent": ("YES", "NO"),
}
"""Every value that an image which the node reads may have (DICOM PS3.3 C.8.11.7, C.8.11.1)."""


class Rule(Protocol):
    """What is asked of a rule here; `mammoscope.settings.RuleSettings` is one."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def where(self) -> Mapping[str, Sequence[str]]:
        """Patterns by keyword."""

    @property
    def callers(self) -> Sequence[str]:
        """Who must have sent it; empty for anybody."""


def wrong_keyword(keyword: str) -> str | None:
    """What is wrong with an attribute that a rule names, as the rest of a sentence; ``None`` if nothing is."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword  # slow to import, and most settings have no rule

    tag = tag_for_keyword(keyword)
    if tag is None:
        return "there is no DICOM attribute of this keyword; keywords are like StationName"
    if tag >> 16 == _PATIENT_GROUP or keyword in _ABOUT_THE_EXAMINATION or dictionary_VR(tag) == "PN":
        return "a rule looks at nothing that names a patient or one examination"
    if dictionary_VR(tag) not in _TEXT:
        return "a rule can look at texts and numbers only"
    return None


def matches(value: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns fits a value, upper and lower case alike."""
    return any(fnmatchcase(value.upper(), pattern.upper().replace("[", "[[]")) for pattern in patterns)


def never_applies(rules: Sequence[Rule]) -> dict[str, str]:
    """Say why, by the name of each rule that no image can come to."""
    wrong: dict[str, str] = {}
    for number, rule in enumerate(rules):
        for keyword, patterns in rule.where.items():
            possible = VALUES.get(keyword)
            if possible is not None and not any(matches(value, patterns) for value in possible):
                wrong[rule.name] = f"no image has such a {keyword}; it is one of {', '.join(possible)}"
        before = next((one for one in rules[:number] if one.name not in wrong and _covers(one, rule)), None)
        if rule.name not in wrong and before is not None:
            wrong[rule.name] = (
                f"the rule '{before.name}' before it applies to whatever it does; put the narrower one first, or delete"
                " one of them"
            )
    return wrong


def _covers(wide: Rule, narrow: Rule) -> bool:
    """Whether whatever matches the second matches the first, as far as the patterns themselves show it."""
    if wide.callers and not (narrow.callers and set(narrow.callers) <= set(wide.callers)):
        return False
    return all(
        keyword in narrow.where and all(_pattern_covers(patterns, one) for one in narrow.where[keyword])
        for keyword, patterns in wide.where.items()
    )


def _pattern_covers(wide: Sequence[str], narrow: str) -> bool:
    plain = not any(sign in narrow for sign in "*?")
    return any(one.upper() == narrow.upper() or one == "*" for one in wide) or (plain and matches(narrow, wide))
