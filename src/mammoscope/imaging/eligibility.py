"""Why a mammogram is not to be read, from its header alone; and whether the views of a study are all there.

A model learned from whole breasts in standard views. An image of another kind is answered by "not processed" and the
reason; in a CAD report its detection is (111225, DCM, "Not Attempted") of PS3.16 CID 6042 Status of Results.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.uid import (
    UID,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
)

from mammoscope.imaging import attributes
from mammoscope.imaging.mammogram import PresentationIntent
from mammoscope.imaging.pixel_data import MAX_PIXELS

if TYPE_CHECKING:  # the dictionaries of codes take a tenth of the time in which a decoding process starts
    from pydicom.sr.coding import Code

SMALLEST_SIDE = 64
"""In pixels; what has less is the icon of a mammogram."""
MAGNIFIED_FROM = 1.3
"""Estimated Radiographic Magnification Factor; a breast on the detector has 1.0 to 1.2, one on a stand 1.4 to 2."""

_TOMOSYNTHESIS = frozenset(
    (
        BreastTomosynthesisImageStorage,
        BreastProjectionXRayImageStorageForPresentation,
        BreastProjectionXRayImageStorageForProcessing,
    )
)
# Image Type, PS3.3 C.8.11.7.1.4: value 3 of table C.8-74a (any that begins so) and of C.8-74b; values 4 and 5.
_BIOPSY = ("STEREO_", "PREFIRE", "POSTFIRE", "POSTBIOPSY", "POSTMARKER")
_SLICE = ("TOMO_PROJ", "TOMOSYNTHESIS", "TOMO_SCOUT")
_GENERATED_2D = "GENERATED_2D"
# What makes an image of a contrast-enhanced examination no plain mammogram, in the standard's words (tables C.8-74d and
# C.8-74e) and in those of makers, who put them into any value from the third on. A low-energy image is a plain one.
_CONTRAST_ONLY = ("ADDITION", "SUBTRACT", "RECOMBIN", "HIGHENERGY", "IODINE")
_HOLOGIC_PAYLOAD = 0x7E01
"""Group of a tomosynthesis that Hologic packs into private elements of a secondary capture without pixel data."""


class Ineligibility(StrEnum):
    """Why an image is not read."""

    TOMOSYNTHESIS = "tomosynthesis"
    SYNTHESISED_IN_TOMOSYNTHESIS = "synthesised 2D in a tomosynthesis object"
    SPECIMEN = "specimen"
    BIOPSY = "biopsy"
    CONTRAST = "contrast"
    SIZE = "size"
    FOR_PROCESSING = "for processing"
    FOR_PRESENTATION = "for presentation"
    IMPLANT = "implant"
    MAGNIFICATION = "magnification"
    SPOT_COMPRESSION = "spot compression"
    PARTIAL_VIEW = "partial view"
    NO_LATERALITY = "no laterality"
    NO_VIEW = "no view"

    @property
    def sentence(self) -> str:
        """What the log and the results say."""
        return _SENTENCES[self]

    @property
    def code(self) -> "Code | None":
        """The concept by which a CAD report can name the cause, where PS3.16 has one.

        Of CID 6040 Non-lesion Object Type for an implant, of CID 4015 View Modifier for spot compression and
        magnification, of CID 4014 View for a specimen. The image quality findings of CID 6041 do not serve: they are
        about what is burnt into the image, not about its header.
        """
        from pydicom.sr.codedict import codes  # large, and not needed to tell why

        return {
            Ineligibility.IMPLANT: codes.cid6040.Implant,
            Ineligibility.MAGNIFICATION: codes.cid4015.Magnification,
            Ineligibility.SPOT_COMPRESSION: codes.cid4015.SpotCompression,
            Ineligibility.SPECIMEN: codes.cid4014.TissueSpecimenFromBreast,
        }.get(self)


_SENTENCES = {
    Ineligibility.TOMOSYNTHESIS: "The image is part of a tomosynthesis, which this model does not read.",
    Ineligibility.SYNTHESISED_IN_TOMOSYNTHESIS: (
        "The image is a synthesised 2D image in a tomosynthesis object: have it sent as a digital mammogram."
    ),
    Ineligibility.SPECIMEN: "The image shows a tissue specimen.",
    Ineligibility.BIOPSY: "The image was made for a biopsy or a localisation.",
    Ineligibility.CONTRAST: "The image is of a contrast-enhanced examination and shows no plain mammogram.",
    Ineligibility.SIZE: "The image is too small or too large for a mammogram.",
    Ineligibility.FOR_PROCESSING: "The image is for processing, and this model reads images for presentation.",
    Ineligibility.FOR_PRESENTATION: "The image is for presentation, and this model reads images for processing.",
    Ineligibility.IMPLANT: "The breast has an implant that is not displaced.",
    Ineligibility.MAGNIFICATION: "The image is a magnification view.",
    Ineligibility.SPOT_COMPRESSION: "The image is a spot compression view.",
    Ineligibility.PARTIAL_VIEW: "The image shows a part of the breast only.",
    Ineligibility.NO_LATERALITY: "The image does not say which breast it shows.",
    Ineligibility.NO_VIEW: "The image does not say which view it is.",
}
OTHER_KINDS = frozenset(
    (
        Ineligibility.TOMOSYNTHESIS,
        Ineligibility.SYNTHESISED_IN_TOMOSYNTHESIS,
        Ineligibility.SPECIMEN,
        Ineligibility.BIOPSY,
        Ineligibility.CONTRAST,
        Ineligibility.SIZE,
    )
)
"""Of what is no plain mammogram at all, whatever else its file is."""


def why_not_read(
    header: Dataset, intents: Collection[PresentationIntent] = tuple(PresentationIntent)
) -> Ineligibility | None:
    """Why an image is not to be read, the weightiest reason first; ``None`` if it is.

    Parameters
    ----------
    header
        The attributes of an object that may be a mammogram; pixels are not looked at.
    intents
        What the bundle reads (`mammoscope.inference.BundleInput.intents`). An image that does not say what it is for,
        such as digitised film, is read by every bundle.
    """
    return (
        _not_a_mammogram(header)
        or _not_for_this_model(header, intents)
        or _not_a_whole_breast(header)
        or _unnamed(header)
    )


def expected_views_present(
    headers: Iterable[Dataset],
    expected: Collection[str],
    intents: Collection[PresentationIntent] = tuple(PresentationIntent),
) -> bool:
    """Whether a study has every expected view, each in an image that is to be read.

    Parameters
    ----------
    expected
        Sides and projections such as ``LCC`` and ``RMLO``. If there is none, nothing is known of what to expect.
    """
    there = {
        f"{attributes.laterality(header)}{attributes.view(header)}"
        for header in headers
        if why_not_read(header, intents) is None
    }
    return bool(expected) and there.issuperset(expected)


def is_synthesised_2d(image_type: Collection[str]) -> bool:
    """Whether the values of Image Type say that a 2D image was computed from a tomosynthesis."""
    return any(value.strip().upper() == _GENERATED_2D for value in image_type)


def _of_a_tomosynthesis(header: Dataset, image_type: Sequence[str]) -> Ineligibility | None:
    synthesised = is_synthesised_2d(image_type)
    if _sop_class(header) in _TOMOSYNTHESIS:
        return Ineligibility.SYNTHESISED_IN_TOMOSYNTHESIS if synthesised else Ineligibility.TOMOSYNTHESIS
    is_slice = any(value.startswith(_SLICE) for value in image_type[2:3])
    return Ineligibility.TOMOSYNTHESIS if _holds_hologic_volume(header) or (is_slice and not synthesised) else None


def _holds_hologic_volume(header: Dataset) -> bool:
    return any(tag >> 16 == _HOLOGIC_PAYLOAD for tag in header.keys())  # noqa: SIM118 - iterating parses each element


def _bare(value: str) -> str:
    """A word as makers spell it with a space, a hyphen or an underscore, or with none."""
    return "".join(character for character in value if character.isalnum())


def _not_a_mammogram(header: Dataset) -> Ineligibility | None:
    image_type = [value.strip().upper() for value in attributes.texts(header, "ImageType")]
    kind = image_type[2] if len(image_type) > 2 else ""
    if (tomosynthesis := _of_a_tomosynthesis(header, image_type)) is not None:
        return tomosynthesis
    if attributes.is_specimen(header):
        return Ineligibility.SPECIMEN
    if kind.startswith(_BIOPSY) or attributes.items(header, "BiopsyTargetSequence"):
        return Ineligibility.BIOPSY
    if any(word in _bare(value) for value in image_type[2:] for word in _CONTRAST_ONLY):
        return Ineligibility.CONTRAST
    rows, columns = attributes.number(header, "Rows"), attributes.number(header, "Columns")
    if rows and columns and (min(rows, columns) < SMALLEST_SIDE or rows * columns > MAX_PIXELS):
        return Ineligibility.SIZE
    return None


def _not_for_this_model(header: Dataset, intents: Collection[PresentationIntent]) -> Ineligibility | None:
    intent = attributes.intent(header, _sop_class(header))
    if intent is None or intent in intents:
        return None
    return Ineligibility(intent.lower())


def _not_a_whole_breast(header: Dataset) -> Ineligibility | None:
    modifiers = attributes.view_modifiers(header)
    if attributes.word(header, "BreastImplantPresent") == "YES" and "implant displaced" not in modifiers:
        return Ineligibility.IMPLANT
    magnification = attributes.number(header, "EstimatedRadiographicMagnificationFactor") or 1.0
    if "magnification" in modifiers or magnification >= MAGNIFIED_FROM:
        return Ineligibility.MAGNIFICATION
    if "spot compression" in modifiers:
        return Ineligibility.SPOT_COMPRESSION
    if attributes.word(header, "PartialView") == "YES":
        return Ineligibility.PARTIAL_VIEW
    return None


def _unnamed(header: Dataset) -> Ineligibility | None:
    if attributes.laterality(header) is None:
        return Ineligibility.NO_LATERALITY
    if attributes.view(header) is None:
        return Ineligibility.NO_VIEW
    return None


def _sop_class(header: Dataset) -> UID:
    return UID(attributes.text(header, "SOPClassUID") or "")
