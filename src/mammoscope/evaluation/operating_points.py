"""Which threshold a site may take, with the interval of that choice, and whether scores or images drift.

In come scores and truths of one site, or values of two times; out come figures. Nothing here knows where they are from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.matching import EvaluationError, ImageResult, Matches, match
from mammoscope.evaluation.metrics import (
    bootstrap_weights,
    count_at,
    false_positives_per_image,
    interval_of,
)

Interval = tuple[float, float] | None
DRIFT_DISTANCE = 0.2
"""A smaller difference between two distributions is none to act on, however sure it is."""
CHANCE = 1.95
"""Of the Kolmogorov-Smirnov distance, in sqrt((n + m) / (n m)): chance exceeds it once in a thousand."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold, and what it would have given on the images that it was chosen on.

    Parameters
    ----------
    threshold
        The lowest score shown.
    threshold_interval, sensitivity_interval, false_positives_interval
        95 %, by bootstrap over patients; of the threshold: of the choice, made anew on each resample. ``None`` where
        nothing is defined.
    sensitivity
        ``None`` without a lesion.
    false_positives
        An image.
    """

    threshold: float
    threshold_interval: Interval
    sensitivity: float | None
    sensitivity_interval: Interval
    false_positives: float
    false_positives_interval: Interval


def operating_point(
    results: Sequence[ImageResult],
    false_positives: float,
    *,
    iou: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> OperatingPoint:
    """The lowest threshold with at most so many false positives an image: the most sensitive that a site would bear.

    Parameters
    ----------
    results
        Truth and candidates of each image; what has no candidate at all counts too.
    false_positives
        An image, at most.

    Raises
    ------
    EvaluationError
        If there is no candidate to choose among.
    """
    matches = match(results, iou)
    if not len(matches.score):
        raise EvaluationError("no threshold can be chosen: nothing was proposed on these images.")
    weights = bootstrap_weights(matches.n_patients, resamples, seed)
    chosen = _lowest(matches, false_positives, np.ones((1, matches.n_patients)))[0]
    drawn = count_at(matches, chosen, weights)
    sensitivity = float(count_at(matches, chosen).recall[0])
    return OperatingPoint(
        float(chosen),
        interval_of(_lowest(matches, false_positives, weights)),
        None if np.isnan(sensitivity) else sensitivity,
        interval_of(drawn.recall),
        float(false_positives_per_image(matches, chosen)[0]),
        interval_of(false_positives_per_image(matches, chosen, weights)),
    )


def _lowest(matches: Matches, most: float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The threshold of each row of weights, halfway to the next lower score; 1 where even the best is too much."""
    per_patient = np.bincount(matches.patient, minlength=matches.n_patients)
    ends = np.flatnonzero(np.append(np.diff(matches.score) < 0, True))
    scores = matches.score[ends]
    between = np.append((scores[:-1] + scores[1:]) / 2, scores[-1])
    owner, false = matches.patient[matches.image], ~matches.hit
    found = np.ones(len(weights))
    for row, drawn in enumerate(weights):  # one at a time: all at once would not fit in memory
        wrong = np.cumsum(drawn[owner] * false)[ends]
        fitting = np.searchsorted(wrong, most * (drawn @ per_patient), side="right")
        if fitting:
            found[row] = between[fitting - 1]
    return found


def drift_distance(before: Sequence[float], now: Sequence[float]) -> float | None:
    """How far two distributions are apart: the largest difference of their shares below any value (Kolmogorov-Smirnov).

    ``None`` where one of them is empty.
    """
    if not len(before) or not len(now):
        return None
    first, second = np.sort(np.asarray(before, float)), np.sort(np.asarray(now, float))
    at = np.concatenate([first, second])
    shares = (np.searchsorted(one, at, side="right") / len(one) for one in (first, second))
    one, other = shares
    return float(np.abs(one - other).max())


def has_drifted(before: Sequence[float], now: Sequence[float]) -> bool:
    """Whether two distributions are apart by more than `DRIFT_DISTANCE`, and by more than chance."""
    distance = drift_distance(before, now)
    if distance is None:
        return False
    return distance > max(DRIFT_DISTANCE, CHANCE * float(np.sqrt((len(before) + len(now)) / (len(before) * len(now)))))
