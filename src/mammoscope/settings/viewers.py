"""Which kinds of result a viewer shows, and which ones it is sent for.

As tried with the viewers themselves (docs/results-objects.md, docs/decisions/076-what-viewers-show.md).
"""

from collections.abc import Iterable
from enum import StrEnum


class ResultKind(StrEnum):
    """A kind of object that a destination may be sent."""

    CAD_SR = "cad-sr"
    AI_SR = "ai-sr"
    PRESENTATION_STATE = "presentation-state"
    SHEET = "sheet"
    COLOUR_SHEET = "colour-sheet"
    IMAGE_CAPTURE = "image-capture"
    COLOUR_IMAGE_CAPTURE = "colour-image-capture"
    SEGMENTATION = "segmentation"
    REJECTION_NOTE = "rejection-note"


class Viewer(StrEnum):
    """What a site reads with."""

    ANY = "any"
    """Nothing is known: an object of each kind that is laid over the image, and a sheet."""
    OHIF = "ohif"
    """OHIF, and other viewers on Cornerstone."""
    WORKSTATION = "workstation"
    """A mammography workstation: CAD marks from Mammography CAD SR, grey pictures."""
    PACS = "pacs"
    """A general viewer of a PACS that applies presentation states."""
    IMAGES = "images"
    """One that shows images and nothing else, such as Orthanc's own."""


_COLOUR = (ResultKind.COLOUR_SHEET, ResultKind.COLOUR_IMAGE_CAPTURE)
_GREY = (ResultKind.SHEET, ResultKind.IMAGE_CAPTURE)

SHOWS: dict[Viewer, frozenset[ResultKind]] = {
    Viewer.ANY: frozenset(ResultKind),
    Viewer.OHIF: frozenset({ResultKind.AI_SR, *_COLOUR, *_GREY}),
    Viewer.WORKSTATION: frozenset({ResultKind.CAD_SR, ResultKind.PRESENTATION_STATE, *_GREY}),
    Viewer.PACS: frozenset({ResultKind.PRESENTATION_STATE, *_COLOUR, *_GREY}),
    Viewer.IMAGES: frozenset({*_COLOUR, *_GREY}),
}
"""What each shows; of ``any`` nothing is known, so that nothing is held against it."""

_SENT: dict[Viewer, tuple[ResultKind, ...]] = {
    Viewer.ANY: (
        ResultKind.CAD_SR,
        ResultKind.AI_SR,
        ResultKind.PRESENTATION_STATE,
        ResultKind.COLOUR_SHEET,
    ),
    Viewer.OHIF: (ResultKind.AI_SR, ResultKind.COLOUR_SHEET),
    Viewer.WORKSTATION: (ResultKind.CAD_SR, ResultKind.PRESENTATION_STATE, ResultKind.SHEET),
    Viewer.PACS: (ResultKind.PRESENTATION_STATE, ResultKind.COLOUR_SHEET),
    Viewer.IMAGES: (ResultKind.COLOUR_SHEET, ResultKind.COLOUR_IMAGE_CAPTURE),
}


def kinds_for(viewers: Iterable[Viewer]) -> tuple[ResultKind, ...]:
    """What is sent to a site that reads with these, each kind once.

    Examples
    --------
    >>> [str(kind) for kind in kinds_for([Viewer.OHIF, Viewer.WORKSTATION])]
    ['ai-sr', 'colour-sheet', 'cad-sr', 'presentation-state', 'sheet']
    """
    return tuple(dict.fromkeys(kind for viewer in viewers for kind in _SENT[viewer]))


def not_shown(viewers: Iterable[Viewer], kinds: Iterable[ResultKind]) -> tuple[ResultKind, ...]:
    """Those of these kinds that none of the viewers shows; a rejection note is for the archive."""
    shown = frozenset[ResultKind]().union(*(SHOWS[viewer] for viewer in viewers))
    return tuple(kind for kind in kinds if kind not in shown and kind is not ResultKind.REJECTION_NOTE)
