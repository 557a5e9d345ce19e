"""How far the annotation of an image is: a state per image."""

from enum import StrEnum


class ReviewState(StrEnum):
    """What may be relied on in an image's boxes."""

    UNANNOTATED = "unannotated"
    """Nobody looked for lesions: that it has no boxes says nothing."""
    ANNOTATED = "annotated"
    """Somebody did; no boxes means no lesions."""
    VALIDATED = "validated"
    """An expert confirmed the boxes."""
    DISPUTED = "disputed"
    """Readers differ."""
