"""Why a mammogram was not processed, or a study gave no results: a code to count, and a sentence to read.

A code is one of a few words and holds nothing of the image, the patient or the machine, so that it may stand where
anybody reads, as on a page of metrics. A sentence may name the object.
"""

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """A kind of reason, in words that stay the same from version to version."""

    # The kind of image, told from its header; `mammoscope.imaging.eligibility.Ineligibility` has these.
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
    # What is wrong with the file.
    NOT_AN_IMAGE = "not an image"
    NOT_A_MAMMOGRAM = "not a mammogram"
    MULTI_FRAME = "multi-frame"
    ENCRYPTED = "encrypted"
    DAMAGED = "damaged"
    HEADER = "header"
    PIXEL_DATA = "pixel data"
    TRANSFER_SYNTAX = "transfer syntax"
    NOT_DECODABLE = "not decodable"
    BLANK = "blank"
    DECODER_LOST = "decoder lost"
    PROGRAM_ENDED = "program ended"
    # What the node or its administrator decided, and what became of the program.
    TOO_LATE = "too late"
    TOO_MANY_IMAGES = "too many images"
    RULE = "rule"
    MODEL_FAILED = "model failed"
    MACHINE = "machine"
    # Of a study that gave no results.
    SEVERAL_PATIENTS = "several patients"
    RESULTS = "results"
    UNEXPECTED = "unexpected"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason.

    Parameters
    ----------
    code
        What is counted.
    sentence
        What a person reads: what is wrong, and what to do.
    """

    code: ReasonCode
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    @classmethod
    def of(cls, reason: "Reason | str") -> "Reason":
        """A reason, or a sentence whose kind is not known."""
        return reason if isinstance(reason, Reason) else cls(ReasonCode.OTHER, reason)


def known_code(code: str | None) -> ReasonCode:
    """A code as it was recorded, also by another version; `ReasonCode.OTHER` where this one does not know it."""
    try:
        return ReasonCode(code or ReasonCode.OTHER)
    except ValueError:
        return ReasonCode.OTHER
