"""Kinds of error as TIDE counts them, for one class.

Bolya, Foley, Hays, Hoffman: TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020. Its kinds
"classification" and "both" need more than one class: matching here takes every label for one class.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.matching import Matches
from mammoscope.evaluation.metrics import Floats, average_precision

BACKGROUND_IOU = 0.1
"""Below that IoU with every lesion a false alarm has nothing to do with one."""


class ErrorKind(StrEnum):
    """What is wrong with a candidate that hits nothing, or with a lesion that is not hit."""

    MISSED = "missed"
    """A lesion that is not hit, and that no badly placed candidate points at."""
    LOCALISATION = "localisation"
    """A candidate whose highest IoU with a lesion is 0.1 or more but not enough for a hit."""
    DUPLICATE = "duplicate"
    """A candidate with enough IoU with a lesion that a candidate with a higher score took."""
    BACKGROUND = "background"
    """A candidate whose IoU with every lesion is below 0.1."""


@dataclass(frozen=True, slots=True)
class ErrorFigures:
    """One kind of error.

    Parameters
    ----------
    count
        How many there are at the operating point: lesions for missed ones, findings for the others.
    dap50
        How much AP50 would rise if only these were corrected, among all candidates; ``None`` without lesions.
    """

    count: int
    dap50: float | None


def count_errors(matches: Matches, threshold: float, weights: Floats | None = None) -> dict[ErrorKind, Floats]:
    """How many errors of each kind are left at an operating point; by kind, each of shape (resamples,)."""
    reported = matches.kept(matches.score >= threshold)
    kinds = _kinds(reported)
    weights = np.ones((1, matches.n_patients)) if weights is None else weights

    def counted(kind: ErrorKind) -> Floats:
        image = reported.image_of_lesion if kind is ErrorKind.MISSED else reported.image
        of_patients = np.bincount(reported.patient[image[kinds[kind]]], minlength=matches.n_patients)
        return weights @ of_patients.astype(np.float64)

    return {kind: counted(kind) for kind in ErrorKind}


def corrected_precision(matches: Matches, weights: Floats | None = None) -> dict[ErrorKind, Floats]:
    """How much AP rises when one kind of error is corrected and the others are left, as TIDE corrects them.

    A false alarm and a second candidate on one lesion go. Of the badly placed candidates at a lesion that is not hit
    the one with the highest score becomes a hit; the others go. A missed lesion goes from the truth.

    Returns
    -------
    By kind, each of shape (resamples,); NaN where there is no lesion. Never below 0: a loss is one of the 101 recalls'
    rounding, as in TIDE.
    """
    kinds = _kinds(matches)
    gone = {kind: ~kinds[kind] for kind in (ErrorKind.DUPLICATE, ErrorKind.BACKGROUND)}
    corrected = {
        ErrorKind.MISSED: matches.kept(lesions=~kinds[ErrorKind.MISSED]),
        ErrorKind.LOCALISATION: _placed_well(matches, kinds[ErrorKind.LOCALISATION]),
        **{kind: matches.kept(candidates) for kind, candidates in gone.items()},
    }
    before = average_precision(matches, weights)
    return {kind: np.maximum(average_precision(corrected[kind], weights) - before, 0.0) for kind in ErrorKind}


def _kinds(matches: Matches) -> dict[ErrorKind, NDArray[np.bool_]]:
    """Which lesions (for missed ones) and which candidates are errors of each kind."""
    near = matches.nearest_iou
    enough = near >= _iou(matches)
    misplaced = ~matches.hit & (near >= BACKGROUND_IOU) & ~enough
    noticed = np.zeros(len(matches.image_of_lesion), bool)
    noticed[matches.lesion[matches.hit]] = True
    noticed[matches.nearest[misplaced]] = True
    return {
        ErrorKind.MISSED: ~noticed,
        ErrorKind.LOCALISATION: misplaced,
        ErrorKind.DUPLICATE: ~matches.hit & enough,
        ErrorKind.BACKGROUND: ~matches.hit & (near < BACKGROUND_IOU),
    }


def _placed_well(matches: Matches, misplaced: NDArray[np.bool_]) -> Matches:
    lesion = matches.lesion.copy()
    open_lesions = np.ones(len(matches.image_of_lesion), bool)
    open_lesions[lesion[matches.hit]] = False
    for candidate in np.flatnonzero(misplaced):  # by falling score
        if open_lesions[matches.nearest[candidate]]:
            lesion[candidate] = matches.nearest[candidate]
            open_lesions[lesion[candidate]] = False
    return replace(matches, lesion=lesion).kept(~misplaced | (lesion >= 0))


def _iou(matches: Matches) -> float:
    if matches.iou is None:
        raise ValueError("kinds of error are told by the IoU")
    return matches.iou
