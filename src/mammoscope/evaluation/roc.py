"""Telling images, breasts and patients with a lesion from those without: ROC curves and the area under them.

The score of a breast is the highest score of any candidate on its images, 0 where there is none; that of an image and
of a patient likewise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.matching import ImageResult
from mammoscope.evaluation.metrics import Floats

_CELLS_AT_ONCE = 2_000_000


class Unit(StrEnum):
    """What is told apart."""

    IMAGE = "image"
    BREAST = "breast"
    PATIENT = "patient"


@dataclass(frozen=True, slots=True, eq=False)
class RatedUnits:
    """Units of one kind, by falling score.

    Parameters
    ----------
    score
        Shape (units,).
    positive
        Shape (units,): whether it holds a lesion.
    patient
        Shape (units,): index of its patient, as in `mammoscope.evaluation.Matches`.
    n_patients
        How many patients the evaluation has.
    """

    score: Floats
    positive: NDArray[np.bool_]
    patient: NDArray[np.intp]
    n_patients: int

    @property
    def n_with(self) -> int:
        """How many hold a lesion."""
        return int(self.positive.sum())

    @property
    def n_without(self) -> int:
        """How many hold none."""
        return len(self.positive) - self.n_with


def rate(results: Sequence[ImageResult], unit: Unit) -> RatedUnits:
    """Score and truth of each unit.

    An image of unknown side belongs to no breast. A unit with a crowd region and no lesion is left out: whether it
    holds a lesion is not known.
    """
    index_of = {patient: index for index, patient in enumerate(sorted({result.patient for result in results}))}
    groups: dict[tuple[str, str | int | None], list[ImageResult]] = {}
    for result in results:
        part = {Unit.IMAGE: result.image_id, Unit.BREAST: result.laterality, Unit.PATIENT: ""}[unit]
        if part is not None:
            groups.setdefault((result.patient, part), []).append(result)
    rated = [
        (
            max((finding.score for result in group for finding in result.candidates), default=0.0),
            any(result.truth for result in group),
            index_of[patient],
        )
        for (patient, _), group in groups.items()
        if any(result.truth for result in group) or not any(result.crowds for result in group)
    ]
    score = np.array([row[0] for row in rated], np.float64)
    order = np.argsort(-score, kind="stable")
    return RatedUnits(
        score=score[order],
        positive=np.array([row[1] for row in rated], np.bool_)[order],
        patient=np.array([row[2] for row in rated], np.intp)[order],
        n_patients=len(index_of),
    )


def roc_auc(units: RatedUnits, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve: how often a unit with a lesion scores above one without, a tie counting half.

    This is the Mann-Whitney statistic (Hanley and McNeil, Radiology 1982;143:29-36).

    Parameters
    ----------
    weights
        Shape (resamples, patients): how often each patient was drawn; ``None`` for each once.

    Returns
    -------
    Shape (resamples,); NaN where there are only units of one kind.
    """
    weights = np.ones((1, units.n_patients)) if weights is None else weights
    area = np.full(len(weights), np.nan)
    if not units.n_with or not units.n_without:
        return area
    starts = np.flatnonzero(np.diff(units.score, prepend=np.inf))
    step = max(1, _CELLS_AT_ONCE // len(units.score))
    for start in range(0, len(weights), step):
        drawn = weights[start : start + step, units.patient]
        positive = np.add.reduceat(drawn * units.positive, starts, axis=1)
        negative = np.add.reduceat(drawn * ~units.positive, starts, axis=1)
        below = negative.sum(axis=1, keepdims=True) - np.cumsum(negative, axis=1)
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        won = (positive * (below + negative / 2)).sum(axis=1)
        np.divide(won, pairs, out=area[start : start + step], where=pairs > 0)
    return area


def roc_curve(units: RatedUnits) -> tuple[Floats, Floats]:
    """(1 - specificity, sensitivity) at each threshold that exists, by falling threshold, from (0, 0)."""
    ends = np.append(np.flatnonzero(np.diff(units.score)), len(units.score) - 1)[: len(units.score)]
    true = np.cumsum(units.positive)[ends] / max(units.n_with, 1)
    false = np.cumsum(~units.positive)[ends] / max(units.n_without, 1)
    return np.append(0.0, false), np.append(0.0, true)
