"""What a DICOM header says about a mammogram: side, view, spacing, acquisition.

Headers come from many makers and decades. A value that cannot be understood counts as absent: it never fails the
reading, and it never reaches a message, since it may be the patient's.
"""

import math
import re
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from mammoscope.imaging.mammogram import Acquisition, Laterality, PixelSpacing, PresentationIntent, View

# CID 4014 View for Mammography: SNOMED CT, and SNOMED-RT as older objects have it.
_VIEW_CODES = {
    "399260004": View.ML,
    "R-10224": View.ML,
    "399368009": View.MLO,
    "R-10226": View.MLO,
    "399352003": View.LM,
    "R-10228": View.LM,
    "399099002": View.LMO,
    "R-10230": View.LMO,
    "399162004": View.CC,
    "R-10242": View.CC,
    "399196006": View.FB,
    "R-10244": View.FB,
    "399188001": View.SIO,
    "R-102D0": View.SIO,
    "441555000": View.ISO,
    "R-40AAA": View.ISO,
    "399192008": View.XCCL,
    "R-1024A": View.XCCL,
    "399101009": View.XCCM,
    "R-1024B": View.XCCM,
}
_SPECIMEN_CODES = frozenset(("127457009", "G-8310"))

# CID 4015 View Modifier for Mammography
_MODIFIER_CODES = {
    "399161006": "cleavage",
    "R-102D2": "cleavage",
    "399011000": "axillary tail",
    "R-102D1": "axillary tail",
    "399197002": "rolled lateral",
    "R-102D3": "rolled lateral",
    "399226006": "rolled medial",
    "R-102D4": "rolled medial",
    "414493004": "rolled inferior",
    "R-102CA": "rolled inferior",
    "415670009": "rolled superior",
    "R-102C9": "rolled superior",
    "399209000": "implant displaced",
    "R-102D5": "implant displaced",
    "399163009": "magnification",
    "R-102D6": "magnification",
    "399055006": "spot compression",
    "R-102D7": "spot compression",
    "399110001": "tangential",
    "R-102C2": "tangential",
    "442581004": "nipple in profile",
    "R-40AB3": "nipple in profile",
    "441752004": "anterior compression",
    "P2-00161": "anterior compression",
    "442593008": "infra-mammary fold",
    "R-40ABE": "infra-mammary fold",
    "442580003": "axillary tissue",
    "R-40AB2": "axillary tissue",
}

# CID 244 Laterality, and the two breasts of CID 4031
_LATERALITY_CODES = {
    "7771000": Laterality.LEFT,
    "G-A101": Laterality.LEFT,
    "80248007": Laterality.LEFT,
    "T-04030": Laterality.LEFT,
    "24028007": Laterality.RIGHT,
    "G-A100": Laterality.RIGHT,
    "73056007": Laterality.RIGHT,
    "T-04020": Laterality.RIGHT,
}
_BREAST_CODES = frozenset(("76752008", "T-04000", "80248007", "T-04030", "73056007", "T-04020"))

_VIEW_POSITION = re.compile(rf"(?:[LR][ _-]?)?({'|'.join(sorted(View, key=len, reverse=True))})([ _-]?ID)?")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_DIGITISED_FILM = frozenset(("DF", "SI"))  # Conversion Type: digitised film, scanned image


def is_mammographic(header: Dataset) -> bool:
    """Whether the header of an image that need not be one says that it shows a breast by X-ray."""
    return (
        word(header, "Modality") == "MG"
        or "BREAST" in (word(header, "BodyPartExamined"), word(header, "OrganExposed"))
        or word(header, "PositionerType").startswith("MAMMOGRAPHIC")
        or any(code(item) in _BREAST_CODES for item in items(header, "AnatomicRegionSequence"))
        or any(code(item) in _VIEW_CODES for item in items(header, "ViewCodeSequence"))
    )


def is_specimen(header: Dataset) -> bool:
    """Whether it is a radiograph of excised tissue."""
    return any(code(item) in _SPECIMEN_CODES for item in items(header, "ViewCodeSequence"))


def laterality(header: Dataset) -> Laterality | None:
    """Which breast, from the most specific attribute that says so."""
    anatomy = [*items(header, "AnatomicRegionSequence")]
    frames = [
        frame
        for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in items(header, groups)
        for frame in items(group, "FrameAnatomySequence")
    ]
    for holder, keyword in [
        (header, "ImageLaterality"),
        (header, "Laterality"),
        *((f, "FrameLaterality") for f in frames),
    ]:
        said = word(holder, keyword)
        if said in ("L", "R"):
            return Laterality(said)
    modifiers = [m for region in anatomy for m in items(region, "AnatomicRegionModifierSequence")]
    modifiers += [m for view in items(header, "ViewCodeSequence") for m in items(view, "ViewModifierCodeSequence")]
    said_by_code = {
        _LATERALITY_CODES[value] for item in (*modifiers, *anatomy) if (value := code(item)) in _LATERALITY_CODES
    }
    return said_by_code.pop() if len(said_by_code) == 1 else None


def view(header: Dataset) -> View | None:
    """The view from View Code Sequence, else from View Position, else from where some film collections put it."""
    for item in items(header, "ViewCodeSequence"):
        if (value := code(item)) in _VIEW_CODES:
            return _VIEW_CODES[value]
    for keyword in ("ViewPosition", "PatientOrientation"):
        match = _VIEW_POSITION.fullmatch(word(header, keyword))
        if match:
            return View(match[1])
    return None


def view_modifiers(header: Dataset) -> tuple[str, ...]:
    """Meanings of the view modifiers in the order of the header, each once."""
    found = [
        _MODIFIER_CODES[value]
        for holder in (*items(header, "ViewCodeSequence"), header)
        for item in items(holder, "ViewModifierCodeSequence")
        if (value := code(item)) in _MODIFIER_CODES
    ]
    match = _VIEW_POSITION.fullmatch(word(header, "ViewPosition"))
    if match and match[2]:
        found.append("implant displaced")
    return tuple(dict.fromkeys(found))


def spacing(header: Dataset) -> PixelSpacing | None:
    """Pixel spacing in the breast where it can be had, else on the film.

    Pixel Spacing; else Imager Pixel Spacing, which is at the detector and is brought to the breast by Estimated
    Radiographic Magnification Factor where that is given (PS3.3 10.7.1.3, C.8.11.4); else Nominal Scanned Pixel
    Spacing of a film.
    """
    if (calibrated := pair(header, "PixelSpacing")) is not None:
        return calibrated
    if (detector := pair(header, "ImagerPixelSpacing")) is not None:
        magnification = number(header, "EstimatedRadiographicMagnificationFactor") or 1.0
        if magnification <= 0:
            return detector
        return PixelSpacing(detector.row_mm / magnification, detector.column_mm / magnification)
    return pair(header, "NominalScannedPixelSpacing")


def intent(header: Dataset, sop_class: UID) -> PresentationIntent | None:
    """For presentation or for processing, from the attribute or else from the SOP class."""
    said = word(header, "PresentationIntentType") or sop_class.name.upper()
    for candidate in PresentationIntent:
        if candidate in said:
            return candidate
    return None


def acquisition(header: Dataset, sop_class: UID) -> Acquisition:
    """How the image was made."""
    exposure = number(header, "ExposureInuAs")
    if exposure is None and (mas := number(header, "Exposure")) is not None:
        exposure = mas * 1000
    bits = number(header, "BitsStored")
    return Acquisition(
        manufacturer=text(header, "Manufacturer"),
        model=text(header, "ManufacturerModelName"),
        intent=intent(header, sop_class),
        digitised_film=word(header, "ConversionType") in _DIGITISED_FILM
        or pair(header, "NominalScannedPixelSpacing") is not None,
        kvp=number(header, "KVP"),
        exposure_uas=exposure,
        compression_force_n=number(header, "CompressionForce"),
        body_part_thickness_mm=number(header, "BodyPartThickness"),
        implant=word(header, "BreastImplantPresent") == "YES",
        bits_stored=None if bits is None else int(bits),
    )


def word(holder: Dataset, keyword: str) -> str:
    """The first value of an attribute of enumerated or defined terms in capitals, without padding; empty if absent."""
    return (text(holder, keyword) or "").strip("\0 ").upper()


def text(holder: Dataset, keyword: str) -> str | None:
    """The first value of an attribute as text, or ``None`` where it is absent, empty or unreadable."""
    value = _first(holder, keyword)
    return (str(value).strip() or None) if value is not None else None


def texts(holder: Dataset, keyword: str) -> list[str]:
    """Each value of an attribute as text, in its place; none where it is absent or unreadable."""
    value = _value(holder, keyword)
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return [] if value is None else [str(one).strip() for one in values]


def number(holder: Dataset, keyword: str) -> float | None:
    """The first value of an attribute as a finite number, or ``None``."""
    return _finite(_first(holder, keyword))


def numbers(holder: Dataset, keyword: str) -> list[float | None]:
    """Each value of an attribute as a finite number, or ``None``."""
    value = _value(holder, keyword)
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return [_finite(one) for one in values]


def items(holder: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or unreadable."""
    value = _value(holder, keyword)
    try:
        return [item for item in value if isinstance(item, Dataset)] if value is not None else []
    except TypeError:
        return []


def _value(holder: Dataset, keyword: str) -> Any:
    try:
        return holder.get(keyword)
    except Exception:  # a damaged element raises whatever its bytes lead to
        return None


def _first(holder: Dataset, keyword: str) -> Any:
    value = _value(holder, keyword)
    if isinstance(value, MultiValue | list | tuple):
        return value[0] if len(value) else None
    return value


def _finite(value: Any) -> float | None:
    try:
        finite = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return finite if math.isfinite(finite) else None


def pair(header: Dataset, keyword: str) -> PixelSpacing | None:
    """A spacing of exactly two positive numbers, or ``None``."""
    value = _value(header, keyword)
    if not isinstance(value, MultiValue | list | tuple) or len(value) != 2:
        return None
    row, column = (_finite(v) for v in value)
    return PixelSpacing(row, column) if row and column and min(row, column) > 0 else None


def is_uid(value: str) -> bool:
    """Whether a text is a UID (PS3.5 section 9.1); leading zeros, which some makers write, are let pass."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def code(item: Dataset) -> str | None:
    """The value of an item of a code sequence, short or long, or ``None``."""
    return text(item, "CodeValue") or text(item, "LongCodeValue")
