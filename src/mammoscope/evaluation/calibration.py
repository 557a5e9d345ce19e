"""Whether a score of 0.7 means that seven of ten such candidates are lesions."""

from dataclasses import dataclass

import numpy as np

from mammoscope.evaluation.matching import Matches
from mammoscope.evaluation.metrics import Floats, candidates_by_patient

BINS = 10
"""Score ranges of equal width in the reliability diagram."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The candidates with a score from ``low`` to below ``high`` (the last range holds 1 too).

    Parameters
    ----------
    mean_score, share_of_hits
        Their mean score, and the share of them that hit a lesion; ``None`` where there is no candidate.
    """

    low: float
    high: float
    n: int
    mean_score: float | None
    share_of_hits: float | None


def reliability(matches: Matches) -> tuple[ReliabilityBin, ...]:
    """The reliability diagram: by range of scores, the mean score beside the share of hits."""
    place = _bins(matches)
    n = np.bincount(place, minlength=BINS)
    scores = np.bincount(place, weights=matches.score, minlength=BINS)
    hits = np.bincount(place, weights=matches.hit, minlength=BINS)
    return tuple(
        ReliabilityBin(
            low=index / BINS,
            high=(index + 1) / BINS,
            n=int(n[index]),
            mean_score=float(scores[index] / n[index]) if n[index] else None,
            share_of_hits=float(hits[index] / n[index]) if n[index] else None,
        )
        for index in range(BINS)
    )


def shares_of_hits(matches: Matches, weights: Floats | None = None) -> Floats:
    """The share of hits in each bin of `reliability`; shape (resamples, bins), NaN where a bin is empty."""
    place = _bins(matches)
    weights = np.ones((1, matches.n_patients)) if weights is None else weights
    hits = weights @ candidates_by_patient(matches, place, BINS, matches.hit.astype(np.float64))
    n = weights @ candidates_by_patient(matches, place, BINS)
    share = np.full(n.shape, np.nan)
    np.divide(hits, n, out=share, where=n > 0)
    return share


def calibration_error(matches: Matches, weights: Floats | None = None) -> Floats:
    """Expected calibration error: mean over candidates of how far their bin's mean score is from its share of hits.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, equation 3, with a hit in
    place of a right class.

    Returns
    -------
    Shape (resamples,); NaN where there is no candidate.
    """
    place = _bins(matches)
    # the candidates in a bin cancel from the bin's mean and its weight: what is left is |sum of scores - hits|
    apart = candidates_by_patient(matches, place, BINS, matches.score - matches.hit)
    n = candidates_by_patient(matches, place, BINS)
    weights = np.ones((1, matches.n_patients)) if weights is None else weights
    total = weights @ n.sum(axis=1)
    error = np.full(len(weights), np.nan)
    np.divide(np.abs(weights @ apart).sum(axis=1), total, out=error, where=total > 0)
    return error


def _bins(matches: Matches) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.minimum((matches.score * BINS).astype(np.intp), BINS - 1)
