"""Words: those that may stay in a description, and those that name somebody."""

import re
from collections.abc import Iterator

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


_HARMLESS = _set_of("""
    2D 3D ACQUISITION ADDITIONAL AND ANGLE ANTERIOR ASSESSMENT AT AXILLA AXILLARY BEFORE BILAT BILATERAL BIOPSY BREAST
    BREASTS CALCIFICATION CALCIFICATIONS CAD CC CESM CHEST CLEAVAGE CLIP COMBO COMPRESSION CONTRAST CRANIO
    CRANIOCAUDAL CAUDAL DBT DIAG DIAGNOSTIC DIGITAL DIGITIZED DISPLACED DIGITISED EKLUND ENERGY ENHANCED EXAM
    EXAMINATION EXAGGERATED FFDM FILM FOLLOW FOLLOWUP FOR FULL HIGH ID IMAGE IMAGES IMPLANT IMPLANTS IN INTERPRETATION
    L LATERAL LATERALLY LCC LEFT LM LML LMLO LMO LOW MAG MAGNIFICATION MAGNIFIED MAMMO MAMMOGRAM MAMMOGRAMS
    MAMMOGRAPHY MAMMOGRAPHIC MASS MEDIAL MEDIALLY MEDIO MEDIOLATERAL MG ML MLO NIPPLE OBLIQUE OF ORIGINAL POST POSTERIOR
    PRE PRESENTATION PROCESSED PROCESSING PROFILE PROJECTION R RAW RCC RECOMBINED RECONSTRUCTION RIGHT RM RML RMLO ROI
    ROLLED ROUTINE SCREENING SIO SPECIMEN SPOT STANDARD STEREO SUBTRACTED SYNTHESIZED SYNTHESISED SYNTHETIC TANGENTIAL
    TOMO TOMOSYNTHESIS UNILATERAL UP VIEW VIEWS WITH WITHOUT XCC XCCL XCCM
""")  # fmt: skip
"""Words of mammography, all that a description keeps."""

_STRUCTURE = _set_of("PRIMARY SECONDARY DERIVED NONE YES NO MONO GRAY GREY AXIAL") | _HARMLESS
"""Words of coded values, which a patient's name does not take away from them."""

BINARY_NUMBERS = _set_of("AT FD FL SL SS SV UL US UV")
"""Value representations of numbers that are not written as text."""

_WORD = re.compile(r"[^\W_]+")
_IDENTIFIERS = frozenset(
    (
        0x00100020,  # Patient ID
        0x00101000,  # Other Patient IDs
        0x00080050,  # Accession Number
        0x00100030,  # Patient's Birth Date
        0x00101040,  # Patient's Address
        0x00102154,  # Patient's Telephone Numbers
        0x00380010,  # Admission ID
        0x00081080,  # Admitting Diagnoses Description
        0x00080080,  # Institution Name
        0x00080081,  # Institution Address
    )
)
_NAMES = frozenset(("PN",))
_LEAST_LETTERS, _LEAST_CHARACTERS, _LEAST_DIGITS = 3, 5, 6


def cleaned(text: str, names: "IdentifyingWords") -> str:
    """The harmless words of a description, in their order, except those that are part of a name or identifier."""
    words = _WORD.findall(text.upper())
    return " ".join(word for word in words if word in _HARMLESS and word.casefold() not in names.words)


class IdentifyingWords:
    """The names and identifiers in one object, to find where else they stand.

    Parameters
    ----------
    dataset
        As it came, at every depth of which person names and the patient's identifiers are taken.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.words: set[str] = set()
        self._parts: set[str] = set()
        for element in every_element(dataset):
            if element.VR in _NAMES:
                self._add_name(element)
            elif element.tag in _IDENTIFIERS:
                for text in texts(element):
                    self._add_identifier(text)

    def stand_in(self, element: DataElement) -> bool:
        """Whether one of them stands in an element's value."""
        if element.VR in ("OB", "OW", "UN") and isinstance(element.value, bytes):
            return self._in_text(element.value.decode("latin-1"), set())  # three letters stand in any bytes
        if element.VR in BINARY_NUMBERS:
            return False
        if element.VR in ("IS", "DS"):  # a size in millimetres may equal a short number of a patient
            return any(text.strip() in self._parts and len(text.strip()) >= _LEAST_DIGITS for text in texts(element))
        coded = element.VR == "CS"
        words = {word for word in self.words if word.upper() not in _STRUCTURE} if coded else self.words
        return any(self._in_text(text, words) for text in texts(element))

    def _in_text(self, text: str, words: set[str]) -> bool:
        folded = text.casefold()
        if not words.isdisjoint(_WORD.findall(folded)):
            return True
        return any(part in folded for part in self._parts)

    def _add_name(self, element: DataElement) -> None:
        for text in texts(element):
            for word in _WORD.findall(text.casefold()):
                if len(word) >= _LEAST_LETTERS:
                    self.words.add(word)
                self._add_part(word)

    def _add_identifier(self, text: str) -> None:
        folded = text.casefold().strip()
        if len(folded) >= _LEAST_LETTERS:
            self.words.add(folded)
        self._add_part(folded)

    def _add_part(self, folded: str) -> None:
        if len(folded) >= _LEAST_CHARACTERS and folded.upper() not in _STRUCTURE:
            self._parts.add(folded)


def every_element(dataset: Dataset) -> Iterator[DataElement]:
    """The elements at every depth that can be understood; private ones are left out."""
    for tag in list(dataset.keys()):
        if tag.is_private or tag == 0x7FE00010:
            continue
        try:
            element = dataset[tag]
        except Exception:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from every_element(item)
        else:
            yield element


def texts(element: DataElement) -> list[str]:
    """The values of an element as text."""
    value = element.value
    if value is None or isinstance(value, bytes):
        return []
    return [str(one) for one in value] if isinstance(value, (MultiValue, list, tuple)) else [str(value)]
