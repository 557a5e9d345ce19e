"""What a reader says of a finding, in the words of ACR BI-RADS (5th edition) and the codes of DICOM PS3.16.

Words are what people see and data sets hold; codes are what structured reports hold. One table for both directions:
`mammoscope.results` writes the codes, `mammoscope.datasets` reads them back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

_EDITION = "4.0"  # of BI-RADS, in which those codes are; a code of that scheme is none without

ASSESSMENT_CATEGORY = Code("111005", "DCM", "Assessment Category")
SHAPE = Code("107644003", "SCT", "Shape")
MARGINS = Code("111037", "DCM", "Margins")
IMPRESSION_DESCRIPTION = Code("111033", "DCM", "Impression Description")

BIRADS = {
    "0": Code("397138000", "SCT", "0 - Incomplete - Need additional imaging evaluation +/- priors"),
    "1": Code("397140005", "SCT", "1 - Negative"),
    "2": Code("397141009", "SCT", "2 - Benign"),
    "3": Code("397143007", "SCT", "3 - Probably Benign"),
    "4": Code("397144001", "SCT", "4 - Suspicious"),
    "4A": Code("MA.II.A.5.4A", "BI", "4A - Low suspicion", _EDITION),
    "4B": Code("MA.II.A.5.4B", "BI", "4B - Intermediate suspicion", _EDITION),
    "4C": Code("MA.II.A.5.4C", "BI", "4C - Moderate suspicion", _EDITION),
    "5": Code("397145000", "SCT", "5 - Highly suggestive of malignancy"),
    "6": Code("MA.II.A.5.6", "BI", "6 - Known biopsy proven malignancy", _EDITION),
}
"""Assessment Category by its number (CID 6027)."""

SHAPES = {
    "oval": codes.cid6004.OvoidShapeOval,
    "round": codes.cid6004.RoundShape,
    "irregular": codes.cid6004.Irregular,
    "lobular": codes.cid6004.Lobular,
}
"""Shape of a mass (CID 6004); lobular is of the 4th edition and comes from older data."""

MARGINS_OF_MASSES = {
    "circumscribed": codes.cid6006.CircumscribedLesion,
    "obscured": codes.cid6006.ObscuredLesion,
    "microlobulated": codes.cid6006.MicrolobulatedLesion,
    "indistinct": codes.cid6006.IndistinctLesion,
    "spiculated": codes.cid6006.SpiculatedLesion,
}
"""Margin of a mass (CID 6006)."""

WORDS: Mapping[str, Mapping[str, Code]] = {"birads": BIRADS, "shape": SHAPES, "margin": MARGINS_OF_MASSES}
"""What can be said of a finding in coded words, by the names that data sets have for them."""

CONCEPTS = {"birads": ASSESSMENT_CATEGORY, "shape": SHAPE, "margin": MARGINS}
"""What structured reports call them."""

OFFERED = {
    "birads": ("0", "2", "3", "4", "4A", "4B", "4C", "5", "6"),
    "shape": ("oval", "round", "irregular"),
    "margin": ("circumscribed", "obscured", "microlobulated", "indistinct", "spiculated"),
}
"""Of them, what a reader of today chooses from: 1 (negative) is said of no finding."""

_OTHER_NAMES = {"margins": "margin", "bi-rads": "birads", "assessment": "birads"}


@dataclass(frozen=True, slots=True)
class Description:
    """What a reader says of a finding besides its class; empty where nothing is said.

    Parameters
    ----------
    birads, shape, margin
        One of `WORDS`; another word is kept and stands in the texts of objects alone.
    comment
        In the reader's own words.
    """

    birads: str = ""
    shape: str = ""
    margin: str = ""
    comment: str = ""

    @classmethod
    def of(cls, said: Mapping[str, object]) -> Self:
        """What attributes say, such as those of a data set's box, in whatever case their words are.

        ``margins`` is taken for ``margin``: importers of collections call it so.
        """
        known: dict[str, str] = {}
        for given, value in said.items():
            name = _OTHER_NAMES.get(given.casefold(), given.casefold())
            if name in cls.__slots__ and isinstance(value, str | int) and str(value).strip():
                known.setdefault(name, in_words(name, str(value).strip()))
        return cls(**known)

    @classmethod
    def in_text(cls, text: str) -> Self:
        """What a text says that was made as ``str`` makes it, with other words between commas before or after it."""
        said: dict[str, object] = {}
        for part in text.split(","):
            word = part.strip()
            name, _, category = word.partition(" ")
            if name.casefold() in ("bi-rads", "birads") and category in BIRADS:
                said["birads"] = category
            for kind in ("shape", "margin"):
                if word in WORDS[kind]:
                    said[kind] = word
        return cls.of(said)

    def to_dict(self) -> dict[str, str]:
        """What is said, by name."""
        return {name: said for name in self.__slots__ if (said := getattr(self, name))}

    def codes(self) -> list[tuple[Code, Code]]:
        """What is said in coded words: (concept, value), in the order of the templates."""
        found = []
        for name, concept in CONCEPTS.items():
            if (value := WORDS[name].get(getattr(self, name))) is not None:
                found.append((concept, value))
        return found

    def __str__(self) -> str:
        """In few words, without the comment: ``BI-RADS 4B, oval, spiculated``; empty where nothing is said."""
        return ", ".join(filter(None, (self.birads and f"BI-RADS {self.birads}", self.shape, self.margin)))


def in_words(name: str, said: str) -> str:
    """A word of `WORDS` as it is written there, whatever its case; any other as it is."""
    known = WORDS.get(name, {})
    return next((word for word in known if word.casefold() == said.casefold()), said)
