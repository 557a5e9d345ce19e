"""Which images may have a name burned into the picture: pointed at, never read and never guessed away."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mammoscope.datasets.audit.anatomy import glyphs
from mammoscope.imaging import Mammogram, MammogramError, find_breast_region, read_mammogram

_TELLING_TYPES = ("SCREEN", "CAPTURE", "REPORT", "SUMMARY", "ANNOTAT", "OVERLAY")


@dataclass(frozen=True, slots=True, eq=False)
class Suspicion:
    """Why an image is held back.

    Parameters
    ----------
    path
        Of the original.
    reasons
        Sentences without the patient's data.
    marks
        (x0, y0, x1, y1) as shares of the sides, around what may be text.
    pixels
        As displayed, where they could be read.
    """

    path: Path
    reasons: tuple[str, ...]
    marks: tuple[tuple[float, float, float, float], ...] = ()
    pixels: NDArray[np.uint16] | None = None


def suspicion(path: Path, header: Dataset) -> Suspicion | None:
    """What speaks for burned-in text, or ``None``.

    The header counts (Burned In Annotation, Recognizable Visual Features, Image Type), and in the picture groups of
    small bright things outside the breast. Where the picture cannot be looked at, that is a reason as well. A single
    lead marker is none: it has no more than four letters.
    """
    reasons = list(_said(header))
    try:
        mammogram = read_mammogram(path)
    except MammogramError as error:
        return Suspicion(path, (*reasons, f"It could not be looked at: {error}"))
    marks, seen = _seen(mammogram)
    reasons += seen
    return Suspicion(path, tuple(reasons), marks, mammogram.pixels) if reasons else None


def _said(header: Dataset) -> list[str]:
    reasons = []
    if header.get("BurnedInAnnotation") == "YES":
        reasons.append("Its header says that text is burned in (Burned In Annotation).")
    if header.get("RecognizableVisualFeatures") == "YES":
        reasons.append("Its header says that the picture shows who it is (Recognizable Visual Features).")
    kinds = header.get("ImageType") or ()
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if any(telling in str(kind).upper() for kind in kinds for telling in _TELLING_TYPES):
        reasons.append("Its Image Type is that of a captured screen or report.")
    return reasons


def _seen(mammogram: Mammogram) -> tuple[tuple[tuple[float, float, float, float], ...], list[str]]:
    mask = find_breast_region(mammogram.pixels).mask
    if mask.all():
        return (), ["No breast was found in it, so text cannot be told from tissue."]
    marks = glyphs(mammogram.pixels, mask)
    return marks, ["Letters or digits seem to stand beside the breast."] if marks else []
