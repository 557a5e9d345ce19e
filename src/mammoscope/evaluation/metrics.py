"""The figures, each once as it is defined, and at the same time for any number of bootstrap resamples.

A resample is a weight per patient: how often it was drawn. All functions take ``weights`` of shape
(resamples, patients) and give one value a resample; ``None`` stands for every patient once. What is undefined (a
recall without lesions) is NaN. Matching does not depend on the weights, so it is done once.

The bootstrap over patients: what is drawn, and the interval of what comes of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.matching import EvaluationError, ImageResult, Matches, match

Floats = NDArray[np.float64]

RECALLS = np.linspace(0.0, 1.0, 101)
"""The recalls at which COCO reads precision."""
_CELLS_AT_ONCE = 2_000_000


def average_precision(matches: Matches, weights: Floats | None = None) -> Floats:
    """COCO's AP: the mean, over 101 recalls, of the highest precision at that recall or a higher one.

    Returns
    -------
    Shape (resamples,); NaN where there is no lesion.
    """
    # recall grows at true positives only; beyond the highest recall reached precision is 0
    n_truth, found, taken = _drawn_up_to(matches, np.flatnonzero(matches.hit), weights)
    precision = found / np.maximum(taken, 1.0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
    ap = np.full(len(n_truth), np.nan)
    for row in np.flatnonzero(n_truth):
        at = np.searchsorted(found[row] / n_truth[row], RECALLS, side="left")
        ap[row] = envelope[row, at].mean()
    return ap


def area_under_precision_recall(matches: Matches, weights: Floats | None = None) -> Floats:
    """AP as the sum, over the thresholds that exist, of precision times the step in recall.

    The precision is the one measured at the threshold: no envelope over higher recalls, no interpolation. This is how
    we read equation 4 of Demirel et al. 2023, AP as the area under the precision-recall curve. Equal scores are one
    threshold.

    Returns
    -------
    Shape (resamples,); NaN where there is no lesion.
    """
    n_truth, found, taken = _drawn_up_to(matches, _ends_with_hits(matches), weights)
    step = np.diff(found, axis=1, prepend=0.0)
    return _ratio((step * found / np.maximum(taken, 1.0)).sum(axis=1), n_truth)


def sensitivity_at(matches: Matches, fppi: Sequence[float], weights: Floats | None = None) -> Floats:
    """FROC: the highest sensitivity at no more than that many false positives per image.

    Nothing is interpolated: each is the sensitivity of a threshold that exists. False positives are counted on all
    images.

    Returns
    -------
    Shape (resamples, len(fppi)); NaN where there is no lesion.
    """
    n_truth, found, taken = _drawn_up_to(matches, _ends_with_hits(matches), weights)
    n_images = _or_ones(matches, weights) @ _per_patient(matches, np.ones_like(matches.patient))
    false = taken - found
    sensitivity = np.full((len(n_truth), len(fppi)), np.nan)
    for row in np.flatnonzero(n_truth):
        last = np.searchsorted(false[row], np.asarray(fppi) * n_images[row], side="right")
        sensitivity[row] = np.concatenate([[0.0], found[row]])[last] / n_truth[row]
    return sensitivity


def precision_at(matches: Matches, recalls: Sequence[float], weights: Floats | None = None) -> Floats:
    """Precision at the highest threshold that reaches each recall, as measured there: no envelope.

    Returns
    -------
    Shape (resamples, len(recalls)); NaN where the recall is not reached.
    """
    n_truth, found, taken = _drawn_up_to(matches, np.flatnonzero(matches.hit), weights)
    precision = np.full((len(n_truth), len(recalls)), np.nan)
    for row in np.flatnonzero(n_truth):
        first = np.searchsorted(found[row] / n_truth[row], np.asarray(recalls) - 1e-12, side="left")
        reached = first < found.shape[1]
        precision[row, reached] = (found[row] / np.maximum(taken[row], 1.0))[first[reached]]
    return precision


def band_of(values: Floats) -> tuple[Floats, Floats]:
    """2.5th and 97.5th percentile of each column over the resamples that define it; NaN where that is fewer than half.

    Parameters
    ----------
    values
        Shape (resamples, points).
    """
    low, high = np.full((2, values.shape[1]), np.nan)
    for column in np.flatnonzero((~np.isnan(values)).mean(axis=0) >= 0.5):
        low[column], high[column] = np.nanpercentile(values[:, column], _LEVEL)
    return low, high


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Hits and errors at one threshold, each of shape (resamples,)."""

    true_positives: Floats
    false_positives: Floats
    false_negatives: Floats

    @property
    def precision(self) -> Floats:
        """Share of the findings that are lesions; NaN where there is no finding."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> Floats:
        """Share of the lesions that were found; NaN where there is no lesion."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN); NaN where there is neither finding nor lesion."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)


def count_at(matches: Matches, threshold: float, weights: Floats | None = None) -> Counts:
    """True and false positives among the candidates with that score or more, and the lesions they leave."""
    weights = _or_ones(matches, weights)
    taken = matches.score >= threshold
    found = _of_patients(matches, taken & matches.hit) @ weights.T
    false = _of_patients(matches, taken & ~matches.hit) @ weights.T
    return Counts(found, false, _per_patient(matches, matches.n_truth) @ weights.T - found)


def false_positives_per_image(matches: Matches, threshold: float, weights: Floats | None = None) -> Floats:
    """False positives with that score or more, over all images; shape (resamples,), NaN where there is no image."""
    n_images = _or_ones(matches, weights) @ _per_patient(matches, np.ones_like(matches.patient))
    return _ratio(count_at(matches, threshold, weights).false_positives, n_images)


def choose_threshold(results: Sequence[ImageResult], iou: float = 0.5) -> float:
    """The operating point with the highest F1, to be chosen on VALIDATION and kept for every other set.

    Of thresholds with the same F1 the highest is taken: it shows a reader fewest marks. The value lies halfway between
    the lowest score it takes and the next lower one, so that rounding elsewhere does not move a finding over it;
    where there is no lower one, it is that lowest score.

    Raises
    ------
    EvaluationError
        If no candidate finds a lesion: every threshold is as bad as any.
    """
    matches = match(results, iou)
    ends = _ends_of_ties(matches.score)
    found = _found(matches)[ends]
    if not len(found) or not found[-1]:
        raise EvaluationError("no operating point can be chosen: no candidate finds a lesion on these images.")
    f1 = 2 * found / (ends + 1 + matches.n_truth.sum())  # 2 TP / ((TP + FP) + (TP + FN))
    best = int(f1.argmax())
    lowest = float(matches.score[ends[best]])
    if best + 1 == len(ends):
        return lowest
    return (lowest + float(matches.score[ends[best + 1]])) / 2


def precision_recall_curve(matches: Matches) -> tuple[Floats, Floats]:
    """(recall, precision) at each threshold that exists, by falling threshold."""
    ends = _ends_of_ties(matches.score)
    found = _found(matches)[ends]
    return _over(found, max(matches.n_truth.sum(), 1)), _over(found, ends + 1)


def froc_curve(matches: Matches) -> tuple[Floats, Floats]:
    """(false positives per image, sensitivity) at each threshold that exists, by falling threshold."""
    ends = _ends_of_ties(matches.score)
    found = _found(matches)[ends]
    return _over(ends + 1 - found, matches.n_images), _over(found, max(matches.n_truth.sum(), 1))


def candidates_by_patient(
    matches: Matches, group: NDArray[np.intp], n_groups: int, amount: Floats | None = None
) -> Floats:
    """How many candidates of each group each patient has, or what they amount to; shape (patients, groups)."""
    cell = matches.patient[matches.image] * n_groups + group
    counted = np.bincount(cell, weights=amount, minlength=matches.n_patients * n_groups)
    return counted.astype(np.float64).reshape(matches.n_patients, n_groups)


def _or_ones(matches: Matches, weights: Floats | None) -> Floats:
    return np.ones((1, matches.n_patients)) if weights is None else weights


def _drawn_up_to(matches: Matches, ends: NDArray[np.intp], weights: Floats | None) -> tuple[Floats, Floats, Floats]:
    """(lesions, lesions found, candidates taken) in each resample, by threshold.

    Parameters
    ----------
    ends
        Rising indices of candidates: a threshold takes the candidates up to and including one of them.

    Returns
    -------
    Shapes (resamples,), (resamples, ends), (resamples, ends).
    """
    weights = _or_ones(matches, weights)
    part = np.searchsorted(ends, np.arange(len(matches.score)))  # which end first takes the candidate
    found, taken = np.empty((2, len(weights), len(ends)))
    step = max(1, _CELLS_AT_ONCE // matches.n_patients)
    for start in range(0, len(ends), step):
        stop = min(start + step, len(ends))
        inside = (part >= start) & (part < stop)
        for chosen, drawn in ((inside & matches.hit, found), (inside, taken)):
            some = matches.kept(chosen)
            drawn[:, start:stop] = weights @ candidates_by_patient(some, part[chosen] - start, stop - start)
    n_truth = weights @ _per_patient(matches, matches.n_truth)
    return n_truth, np.cumsum(found, axis=1), np.cumsum(taken, axis=1)


def _per_patient(matches: Matches, per_image: NDArray[np.intp]) -> Floats:
    summed = np.bincount(matches.patient, weights=per_image, minlength=matches.n_patients)
    return summed.astype(np.float64)


def _of_patients(matches: Matches, chosen: NDArray[np.bool_]) -> Floats:
    counted = np.bincount(matches.patient[matches.image[chosen]], minlength=matches.n_patients)
    return counted.astype(np.float64)


def _ends_of_ties(score: Floats) -> NDArray[np.intp]:
    """Index of the last of each run of equal scores: a threshold takes all of them or none."""
    if not len(score):
        return np.empty(0, np.intp)
    return np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)


def _ends_with_hits(matches: Matches) -> NDArray[np.intp]:
    """The ends of those runs of equal scores in which a lesion is found: elsewhere only false positives are added."""
    ends = _ends_of_ties(matches.score)
    return ends[np.diff(_found(matches)[ends], prepend=0) > 0]


def _found(matches: Matches) -> NDArray[np.intp]:
    """How many lesions are found by each candidate and those before it."""
    return np.cumsum(matches.hit, dtype=np.intp)


def _over(part: NDArray[np.intp], whole: NDArray[np.intp] | int) -> Floats:
    return np.asarray(part / whole, np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


_LEVEL = (2.5, 97.5)


def bootstrap_weights(n_patients: int, resamples: int, seed: int) -> Floats:
    """How often each patient was drawn, shape (resamples, patients)."""
    drawn = np.random.default_rng(seed).multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)
    return drawn.astype(np.float64)


def interval_digits(interval: Sequence[float], resamples: int) -> int:
    """How many decimals of an interval's ends the resamples carry, 1 to 3.

    The standard error of the ends, percentiles of ``resamples`` draws, is about 0.682 widths over the root of the
    resamples where the draws are normal: sqrt(0.025 * 0.975 / n) / density. A decimal is given where one of its units
    is at least two standard errors.
    """
    width = float(interval[1]) - float(interval[0])
    error = 0.682 * width / math.sqrt(max(resamples, 1))
    return 3 if error <= 0 else max(1, min(3, math.floor(-math.log10(2 * error))))


def interval_text(interval: Sequence[float] | None, resamples: int) -> str:
    """``0.58 to 0.70``, with the decimals that the resamples carry; empty for ``None``."""
    if interval is None:
        return ""
    digits = interval_digits(interval, resamples)
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def interval_of(values: Floats) -> tuple[float, float] | None:
    """2.5th and 97.5th percentile of what is defined among the resamples' values; ``None`` where nothing is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, _LEVEL)
    return float(low), float(high)
