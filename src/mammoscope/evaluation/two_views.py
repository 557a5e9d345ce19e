"""The two views of a breast in an evaluation: cases read together, weights fitted, what the other view adds.

The weights are fitted on validation. There too their own figures would flatter, so they are taken by cross-validation:
each patient is scored by weights that were fitted without them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mammoscope.evaluation.logistic import least_log_loss, log_loss, soft_targets
from mammoscope.evaluation.matching import EvaluationError, ImageResult, compare_boxes, match
from mammoscope.evaluation.metrics import (
    Floats,
    average_precision,
    bootstrap_weights,
    count_at,
    interval_of,
    sensitivity_at,
)
from mammoscope.evaluation.predictions import UNKNOWN, Case, Report
from mammoscope.imaging import View
from mammoscope.inference import BreastView, BundleMetadata, DataRole, KnownData, TwoViews, pairs_of_views

_VERSION_ENDING = ".views-"
FOLDS = 10
LEAST_HITS = 30
"""Candidates on both views' images that hit a lesion, below which three weights are not fitted."""


def pairs_of_cases(cases: Sequence[Case]) -> list[tuple[int, int]]:
    """Places of the CC and the MLO case of each breast that is seen on exactly one of either in one examination."""
    seen = [
        ((case.result.patient, case.study, case.result.laterality), View(case.attributes["view"]))
        if case.extent is not None and case.result.laterality and case.attributes.get("view", UNKNOWN) != UNKNOWN
        else (None, None)
        for case in cases
    ]
    return pairs_of_views(seen)


def read_together(cases: Sequence[Case], two_views: TwoViews) -> list[Case]:
    """The cases, those of a breast seen on both views with the scores that these give each other."""
    together = list(cases)
    for here, there in _both_ways(cases):
        together[here] = _rescored(cases[here], two_views.scores(_view(cases[here]), _view(cases[there])))
    return together


def fit_two_views(cases: Sequence[Case], *, fitted_on: str = "") -> TwoViews | None:
    """The weights with the least log-loss over the candidates of breasts seen on both views; a hit is at IoU 0.5.

    Parameters
    ----------
    cases
        Read from each view alone, with calibrated scores; of validation.
    fitted_on
        The images, in words.

    Returns
    -------
    TwoViews or None
        ``None`` where too little can be learned, or a candidate with its like on the other view hits no more often.
    """
    return _fitted(_examples(cases), fitted_on)


def cross_validated(cases: Sequence[Case], *, folds: int = FOLDS, seed: int = 0) -> list[Case] | None:
    """The cases read together, each patient's by weights that were fitted on the other folds' patients.

    Parameters
    ----------
    seed
        Deals the patients to the folds.

    Returns
    -------
    list of Case or None
        ``None`` where one of the folds teaches nothing, or where scores fitted without the other view are no worse on
        patients that they were not fitted on.
    """
    patients = sorted({case.result.patient for case in cases})
    dealt = np.random.default_rng(seed).permutation(len(patients)) % folds
    fold_of = dict(zip(patients, dealt.tolist(), strict=True))
    examples = _examples(cases)
    together, gained = list(cases), 0.0
    for fold in range(folds):
        others = [one for one in examples if fold_of[cases[one.here].result.patient] != fold]
        left_out = [one for one in examples if fold_of[cases[one.here].result.patient] == fold]
        weights = _fitted(others, "")
        if weights is None:
            return None
        for one in left_out:
            views = _view(cases[one.here]), _view(cases[one.there])
            together[one.here] = _rescored(cases[one.here], weights.scores(*views))
        gained += _gained(others, left_out)
    return together if gained > 0 else None


def metadata_with_two_views(
    report: Report, metadata: BundleMetadata, known: Sequence[KnownData] = ()
) -> BundleMetadata:
    """A bundle's metadata with weights fitted on a report of it.

    The version gets an ending of its own: a model that gives other scores must not pass for this one.

    Parameters
    ----------
    known
        The data that the bundle knows; the report's are added to those that it was calibrated on.

    Raises
    ------
    EvaluationError
        If the report is of another model or version, or nothing can be learned from it.
    """
    of = (report.metrics["model"], report.metrics["model_version"])
    if of != (metadata.name, metadata.version):
        raise EvaluationError(
            f"the report in {report.folder} is of {' '.join(of)}, not of {metadata.name} {metadata.version}: evaluate "
            "this bundle first."
        )
    pairs = pairs_of_cases(report.cases)
    patients = len({report.cases[place].result.patient for place, _ in pairs})
    split = f", split {report.metrics['split']}" if report.metrics["split"] else ""
    fitted_on = f"{report.metrics['dataset']}{split}, {len(pairs)} breasts of {patients} patients seen on both views"
    weights = fit_two_views([case.alone for case in report.cases], fitted_on=fitted_on)
    if weights is None:
        raise EvaluationError(
            f"the report in {report.folder} teaches nothing about two views: of {len(pairs)} breasts seen on a CC and "
            "an MLO view, candidates with their like on the other view hit no more often, or too few hit at all."
        )
    ending = hashlib.sha256(weights.model_dump_json().encode()).hexdigest()[:6]
    version = metadata.version.partition(_VERSION_ENDING)[0]
    learnt = tuple(
        KnownData.model_validate(stored).model_copy(update={"role": DataRole.CALIBRATED, "data": fitted_on})
        for stored in report.metrics.get("known_data") or ()
    )
    there = {(one.role, one.salt, one.patients) for one in known}
    return metadata.model_copy(
        update={
            "version": f"{version}{_VERSION_ENDING}{ending}",
            "two_views": weights,
            "known_data": (*known, *(one for one in learnt if (one.role, one.salt, one.patients) not in there)),
        }
    )


@dataclass(frozen=True, slots=True)
class Gain:
    """One figure of each view alone and of both together.

    Parameters
    ----------
    interval
        95 % of the difference, by the paired bootstrap over patients.
    """

    alone: float | None
    together: float | None
    interval: tuple[float, float] | None

    @property
    def difference(self) -> float | None:
        """Together minus alone."""
        return None if self.alone is None or self.together is None else self.together - self.alone

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "alone": self.alone,
            "together": self.together,
            "difference": self.difference,
            "interval": self.interval and list(self.interval),
        }


GAINS = {
    "ap50": "AP at IoU 0.5 (AP50)",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "froc_0.25": "Sensitivity at 0.25 FPPI",
    "froc_1": "Sensitivity at 1 FPPI",
    "log_loss": "Log-loss of the scores (lower is better)",
}
"""The figures that are given of each view alone and of both together, and their names for a person."""


def gains(cases: Sequence[Case], threshold: float, *, resamples: int = 2000, seed: int = 0) -> dict[str, Gain]:
    """What the other view changes, all of these images together, at IoU 0.5 and one threshold for both ways of reading.

    Parameters
    ----------
    cases
        Read together (`read_together` or `cross_validated`).
    """
    alone, together = [case.alone.result for case in cases], [case.result for case in cases]
    n_patients = len({result.patient for result in alone})
    whole = np.ones((1, n_patients))
    before, after = (_figures(results, threshold, whole) for results in (alone, together))
    spread: dict[str, Floats] = {}
    if resamples:
        drawn = bootstrap_weights(n_patients, resamples, seed)
        ends = [_figures(results, threshold, drawn) for results in (alone, together)]
        spread = {name: ends[1][name] - ends[0][name] for name in GAINS}
    return {
        name: Gain(
            _or_none(before[name][0]), _or_none(after[name][0]), interval_of(spread[name]) if name in spread else None
        )
        for name in GAINS
    }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _figures(results: Sequence[ImageResult], threshold: float, weights: Floats) -> dict[str, Floats]:
    matches = match(results, 0.5)
    counts = count_at(matches, threshold, weights)
    sensitivity = sensitivity_at(matches, (0.25, 1.0), weights)
    share = np.clip(matches.score, 1e-12, 1 - 1e-12)
    losses = -np.log(np.where(matches.hit, share, 1 - share))
    of_patient = matches.patient[matches.image]
    per_patient = [np.bincount(of_patient, worth, matches.n_patients) for worth in (losses, np.ones_like(losses))]
    with np.errstate(invalid="ignore", divide="ignore"):
        log_losses = (weights @ per_patient[0]) / (weights @ per_patient[1])
    return {
        "ap50": average_precision(matches, weights),
        "f1": counts.f1,
        "precision": counts.precision,
        "recall": counts.recall,
        "froc_0.25": sensitivity[:, 0],
        "froc_1": sensitivity[:, 1],
        "log_loss": log_losses,
    }


@dataclass(frozen=True, slots=True)
class _Examples:
    """One image's candidates: what the weights are of, shape (n, 3), and which hit, shape (n,)."""

    here: int
    there: int
    features: Floats
    hit: "np.ndarray[tuple[int], np.dtype[np.bool_]]"


def _examples(cases: Sequence[Case]) -> list[_Examples]:
    plain = TwoViews(intercept=0, own=1, other=1, fitted_on="")
    return [
        _Examples(here, there, plain.features(_view(cases[here]), _view(cases[there])), _hits(cases[here].result))
        for here, there in _both_ways(cases)
    ]


def _gained(fitted_on: Sequence[_Examples], left_out: Sequence[_Examples]) -> float:
    """By how much the other view lowers the summed log-loss of some images, with weights fitted on others."""
    columns, hit = (np.concatenate([getattr(one, name) for one in fitted_on]) for name in ("features", "hit"))
    losses = []
    for kept in (2, 3):  # without the other view, and with it
        weights = least_log_loss(columns[:, :kept], soft_targets(hit))
        losses.append(sum(_summed_loss(one, weights) for one in left_out if len(one.hit)))
    return losses[0] - losses[1]


def _summed_loss(examples: _Examples, weights: Floats) -> float:
    values = examples.features[:, : len(weights)] @ weights
    return log_loss(values, examples.hit.astype(np.float64)) * len(examples.hit)


def _fitted(examples: Sequence[_Examples], fitted_on: str) -> TwoViews | None:
    if not examples:
        return None
    hit = np.concatenate([one.hit for one in examples])
    if hit.sum() < LEAST_HITS or hit.all():
        return None
    columns, target = np.concatenate([one.features for one in examples]), soft_targets(hit)
    intercept, own, other = (float(weight) for weight in least_log_loss(columns, target))
    if own <= 0 or other <= 0 or max(abs(intercept), own, other) > 100:
        return None
    return TwoViews(intercept=intercept, own=own, other=other, fitted_on=fitted_on)


def _hits(result: ImageResult) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which candidates, in their order, take a lesion at IoU 0.5; those beyond `MAX_CANDIDATES` do not."""
    order = sorted(range(len(result.candidates)), key=lambda place: -result.candidates[place].score)
    taken = compare_boxes(result).taken_lesions(0.5) >= 0
    hit = np.zeros(len(result.candidates), np.bool_)
    hit[order[: len(taken)]] = taken
    return hit


def _both_ways(cases: Sequence[Case]) -> list[tuple[int, int]]:
    return [way for one, other in pairs_of_cases(cases) for way in ((one, other), (other, one))]


def _view(case: Case) -> BreastView:
    assert case.extent is not None
    alone = case.alone
    return BreastView(View(case.attributes["view"]), alone.result.candidates, case.extent)


def _rescored(case: Case, scores: Floats) -> Case:
    found = sorted(zip(scores.tolist(), case.alone.result.candidates, strict=True), key=lambda pair: -pair[0])
    candidates = tuple(replace(finding, score=score) for score, finding in found)
    return replace(
        case,
        result=replace(case.result, candidates=candidates),
        scores_alone=tuple(finding.score for _, finding in found),
    )
