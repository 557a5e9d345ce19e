"""What a detector marks at a site, at any threshold: without truth, or with the lesions that readers confirmed.

The threshold that gives a wanted number of marks an image, or a wanted sensitivity, with its interval: the 2.5th and
97.5th percentile over bootstrap resamples of studies, each of which chooses its own threshold.

Whether a month differs from those before it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.errors import MammoscopeError
from mammoscope.evaluation.matching import ImageResult, match
from mammoscope.evaluation.metrics import bootstrap_weights, interval_of
from mammoscope.findings import Box, Finding

DIGITS = 4
"""Decimals of a threshold that is chosen."""
LESION_IOU = 0.5
"""Least intersection over union of a candidate with the lesion that it finds."""
RESAMPLES = 1000
LEAST_STUDIES = 5
"""Of fewer the bootstrap says next to nothing."""
DRIFT_IMAGES = 100
"""Fewer images in a month say nothing of a change."""
DRIFT_RATIO = 1.5
"""A month that differs by more from the months before is told."""

Floats = NDArray[np.float64]


class SiteError(MammoscopeError):
    """What is asked for cannot be had from the images that there are."""


@dataclass(frozen=True, slots=True, eq=False)
class SiteImage:
    """One image that was read.

    Parameters
    ----------
    study
        Of which it is: the unit that the bootstrap draws.
    groups
        What it belongs to, by kind of group: ``{"scanner": ..., "month": ...}``.
    scores
        Shape (candidates,): of all that was proposed and kept.
    complete_from
        The lowest threshold of which ``scores`` tell all that it would mark.
    lesions
        Shape (lesions,): of each confirmed lesion the score of the candidate that found it, minus infinity where none
        did; ``None`` where nobody confirmed anything.
    """

    study: str
    groups: dict[str, str]
    scores: Floats
    complete_from: float = 0.0
    lesions: Floats | None = None


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What a threshold would mark.

    Parameters
    ----------
    marks_per_image
        Mean number of marks.
    images_marked, studies_marked
        Shares with at least one mark.
    sensitivity
        Share of the confirmed lesions that would be marked; ``None`` where there is none.
    complete
        Whether every candidate of such a score is known; where it is not, the figures are too low.
    """

    threshold: float
    marks: int
    marks_per_image: float
    images_marked: float
    studies_marked: float
    sensitivity: float | None
    complete: bool


@dataclass(frozen=True, slots=True)
class SiteGroup:
    """The images of one scanner, station, month, view, or all of them."""

    name: str
    studies: int
    images: int
    lesions: int
    at: tuple[AtThreshold, ...]


@dataclass(frozen=True, slots=True)
class ChosenThreshold:
    """A threshold, and what it was chosen by.

    Parameters
    ----------
    wanted
        ``marks per image`` or ``sensitivity``.
    value
        What was asked for.
    reached
        What the threshold gives on the same images.
    interval
        Of the threshold; ``None`` where there are too few studies.
    """

    threshold: float
    wanted: str
    value: float
    reached: float
    interval: tuple[float, float] | None
    studies: int
    images: int
    lesions: int
    resamples: int


def lesion_scores(candidates: Sequence[Finding], truth: Sequence[Box]) -> Floats:
    """Of each confirmed lesion the score of the candidate that finds it, shape (lesions,); minus infinity for none."""
    scores = np.full(len(truth), -np.inf)
    matches = match([ImageResult(0, "", tuple(truth), tuple(candidates))], LESION_IOU)
    for score, lesion in zip(matches.score, matches.lesion, strict=True):
        if lesion >= 0:
            scores[lesion] = score
    return scores


def group_at(name: str, images: Sequence[SiteImage], thresholds: Sequence[float]) -> SiteGroup:
    """The figures of some images at each threshold."""
    lesions = _lesions(images)
    return SiteGroup(
        name,
        len({image.study for image in images}),
        len(images),
        len(lesions),
        tuple(_at(threshold, images, lesions) for threshold in thresholds),
    )


def by_group(kind: str, images: Sequence[SiteImage], thresholds: Sequence[float]) -> tuple[SiteGroup, ...]:
    """The figures of each group of a kind, in the order of their names."""
    groups: dict[str, list[SiteImage]] = defaultdict(list)
    for image in images:
        groups[image.groups.get(kind) or "unknown"].append(image)
    return tuple(group_at(name, groups[name], thresholds) for name in sorted(groups))


def threshold_for_marks(
    images: Sequence[SiteImage], marks_per_image: float, *, resamples: int = RESAMPLES, seed: int = 0
) -> ChosenThreshold:
    """The lowest threshold that gives no more than so many marks an image.

    Raises
    ------
    SiteError
        If there are no images, or too little was kept of them to tell.
    """
    if not images:
        raise SiteError("no image was read in this time: no threshold can be chosen from it")
    study, n_studies = _study_numbers(images)
    per_image = [image.scores for image in images]
    scores = np.concatenate(per_image) if per_image else np.zeros(0)
    of_study = np.repeat(study, [len(one) for one in per_image])
    order = np.argsort(-scores, kind="stable")
    scores, of_study = scores[order], of_study[order]
    images_of = np.bincount(study, minlength=n_studies).astype(np.float64)
    is_last_of_its_score = np.append(scores[1:] != scores[:-1], True) if len(scores) else np.zeros(0, bool)

    def choose(weights: Floats) -> float:
        allowed = np.cumsum(weights[of_study]) <= marks_per_image * float(weights @ images_of)
        possible = np.flatnonzero(allowed & is_last_of_its_score)
        if len(possible):
            return float(scores[possible[-1]])
        return 1.0 if len(scores) else 0.0

    threshold = min(_rounded_up(choose(np.ones(n_studies))), 1.0)
    floor = max(image.complete_from for image in images)
    if threshold < floor:
        raise SiteError(
            f"so many marks an image would need a threshold below {floor:.3g}, and of some images nothing lower was"
            " kept: ask for fewer, or read them again"
        )
    reached = sum(int((one >= threshold).sum()) for one in per_image) / len(images)
    return ChosenThreshold(
        threshold, "marks per image", marks_per_image, reached,
        _interval(choose, n_studies, resamples, seed), n_studies, len(images), len(_lesions(images)), resamples,
    )  # fmt: skip


def threshold_for_sensitivity(
    images: Sequence[SiteImage], sensitivity: float, *, resamples: int = RESAMPLES, seed: int = 0
) -> ChosenThreshold:
    """The highest threshold that marks at least such a share of the confirmed lesions.

    Raises
    ------
    SiteError
        If nobody confirmed a lesion, or no threshold marks so many of them.
    """
    confirmed = [image for image in images if image.lesions is not None]
    lesions = _lesions(confirmed)
    if not len(lesions):
        raise SiteError("no lesion was confirmed in the reading room in this time: ask for marks per image instead")
    study, n_studies = _study_numbers(confirmed)
    of_study = np.repeat(study, [0 if image.lesions is None else len(image.lesions) for image in confirmed])
    order = np.argsort(-lesions, kind="stable")
    lesions, of_study = lesions[order], of_study[order]

    def choose(weights: Floats) -> float:
        found = np.cumsum(weights[of_study])
        if not len(found) or found[-1] == 0:
            return math.nan
        score = lesions[int(np.argmax(found >= sensitivity * found[-1] - 1e-9))]
        return float(score) if np.isfinite(score) else math.nan

    exact = choose(np.ones(n_studies))
    if math.isnan(exact):
        proposed = int(np.isfinite(lesions).sum())
        raise SiteError(
            f"no threshold marks so many: of {len(lesions)} confirmed lesions the model proposed {proposed} at all"
        )
    threshold = math.floor(exact * 10**DIGITS + 1e-9) / 10**DIGITS
    return ChosenThreshold(
        threshold, "sensitivity", sensitivity, float((lesions >= threshold).mean()),
        _interval(choose, n_studies, resamples, seed), n_studies, len(confirmed), len(lesions), resamples,
    )  # fmt: skip


def drifts(months: Sequence[tuple[str, int, int]], what: str) -> tuple[str, ...]:
    """One sentence for each month in which something is more, or less, frequent than before.

    Parameters
    ----------
    months
        Name, number of images and of what is counted, in the order of time.
    what
        What is counted, such as ``marks``.
    """
    told = []
    images_before = counted_before = 0
    for name, images, counted in months:
        if min(images, images_before) >= DRIFT_IMAGES and counted_before:
            now, before = counted / images, counted_before / images_before
            if now / before > DRIFT_RATIO or now / before < 1 / DRIFT_RATIO:
                told.append(f"{name}: {now:.2f} {what} an image, after {before:.2f} before: look at what changed.")
        images_before, counted_before = images_before + images, counted_before + counted
    return tuple(told)


def _at(threshold: float, images: Sequence[SiteImage], lesions: Floats) -> AtThreshold:
    marks = [int((image.scores >= threshold).sum()) for image in images]
    by_study: Counter[str] = Counter()
    for image, count in zip(images, marks, strict=True):
        by_study[image.study] += count
    return AtThreshold(
        threshold=threshold,
        marks=sum(marks),
        marks_per_image=sum(marks) / max(len(images), 1),
        images_marked=sum(count > 0 for count in marks) / max(len(images), 1),
        studies_marked=sum(count > 0 for count in by_study.values()) / max(len(by_study), 1),
        sensitivity=float((lesions >= threshold).mean()) if len(lesions) else None,
        complete=all(image.complete_from <= threshold for image in images),
    )


def _lesions(images: Sequence[SiteImage]) -> Floats:
    there = [image.lesions for image in images if image.lesions is not None]
    return np.concatenate(there) if there else np.zeros(0)


def _study_numbers(images: Sequence[SiteImage]) -> tuple[NDArray[np.intp], int]:
    names, numbers = np.unique([image.study for image in images], return_inverse=True)
    return numbers.astype(np.intp), len(names)


def _interval(
    choose: Callable[[Floats], float], n_studies: int, resamples: int, seed: int
) -> tuple[float, float] | None:
    if n_studies < LEAST_STUDIES or resamples < 1:
        return None
    drawn: Any = (choose(weights) for weights in bootstrap_weights(n_studies, resamples, seed))
    return interval_of(np.fromiter(drawn, np.float64, resamples))


def _rounded_up(threshold: float) -> float:
    return float(math.ceil(threshold * 10**DIGITS - 1e-9) / 10**DIGITS)
