"""Running a bundle on a mammogram."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoscope.errors import MammoscopeError
from mammoscope.findings import MOST_BELOW_THRESHOLD, Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import (
    Mammogram,
    Placement,
    PreparedImage,
    Preprocessing,
    ReducedMammogram,
    breast_extent,
    find_breast_region,
    prepare,
)
from mammoscope.inference.bundle import Bundle, BundleMetadata
from mammoscope.inference.two_views import TwoViews, is_whole_view

_TOLERANCE = 1e-3
"""How far outside 0 to 1 rounding may put a score."""


class ModelError(MammoscopeError):
    """The model gave no reading of a mammogram."""


class Detector:
    """Finds masses in mammograms with a bundle; no torch.

    One detector may serve several threads: it keeps no state between mammograms.

    Parameters
    ----------
    bundle
        The bundle's file; ``None`` for the shipped one.
    threads
        How many the network may use; ``None`` for one a core.

    Raises
    ------
    BundleError
        If the bundle cannot be run.
    """

    def __init__(self, bundle: Path | None = None, *, threads: int | None = None) -> None:
        self.bundle = Bundle.open(bundle, threads=threads)

    @property
    def algorithm(self) -> Algorithm:
        """Name and version of the bundle."""
        return self.bundle.algorithm

    @property
    def threshold(self) -> float:
        """The default operating point's threshold."""
        return self.bundle.operating_point().threshold

    @property
    def threshold_rule(self) -> str:
        """In words, how the default operating point was chosen and on which images."""
        point = self.bundle.operating_point()
        return f"the bundle's operating point '{point.name}': {point.rule} ({point.chosen_on})"

    @property
    def preprocessing(self) -> Preprocessing:
        """What the bundle wants made of a mammogram's pixels."""
        return self.bundle.metadata.input.preprocessing

    def candidates(self, mammogram: Mammogram | ReducedMammogram) -> tuple[Finding, ...]:
        """Everything the network proposes, however unlikely, by falling score.

        Where the bundle holds a calibration, scores are probabilities.

        Raises
        ------
        ModelError
            If the network's output is no boxes and scores.
        """
        prepared = network_input(mammogram, self.preprocessing)
        return findings_of(self.bundle.run(prepared.pixels), self.bundle.metadata, prepared.placement, mammogram)

    @property
    def two_views(self) -> TwoViews | None:
        """How the bundle reads the two views of a breast together; ``None`` where it does not."""
        return self.bundle.metadata.two_views

    def read(
        self,
        mammogram: Mammogram | ReducedMammogram,
        threshold: float | None = None,
        *,
        keep_candidates: bool = False,
    ) -> Reading:
        """The reading of a mammogram at a threshold, or at the default operating point.

        Parameters
        ----------
        keep_candidates
            As of `reading_at`.

        Raises
        ------
        ModelError
            If the network's output is no boxes and scores.
        """
        threshold = self.threshold if threshold is None else threshold
        candidates = self.candidates(mammogram)
        return reading_at(threshold, mammogram, candidates, self.algorithm, keep_candidates=keep_candidates)


def network_input(mammogram: Mammogram | ReducedMammogram, preprocessing: Preprocessing) -> PreparedImage:
    """What a network sees of a mammogram: prepared where it was decoded, or here where all its pixels are.

    Raises
    ------
    ValueError
        If only a reduced picture is left of it.
    """
    if isinstance(mammogram, Mammogram):
        return prepare(mammogram, preprocessing)
    if mammogram.network_input is None:
        raise ValueError(f"{mammogram.name} was not prepared for a model")
    return mammogram.network_input


def findings_of(
    output: tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]],
    metadata: BundleMetadata,
    placement: Placement,
    mammogram: Mammogram | ReducedMammogram,
) -> tuple[Finding, ...]:
    """A bundle's output (`Bundle.run`) as findings, calibrated where the bundle holds a calibration.

    Raises
    ------
    ModelError
        As `as_findings`.
    """
    boxes, raw, labels = output
    _check_output(boxes, raw, labels, len(metadata.classes), mammogram.name)  # a calibration hides what is no score
    scores = raw if metadata.calibration is None else metadata.calibration.probability(raw)
    return as_findings(boxes, scores, labels, metadata.classes, placement, mammogram)


def reading_at(
    threshold: float,
    mammogram: Mammogram | ReducedMammogram,
    candidates: Sequence[Finding],
    algorithm: Algorithm,
    *,
    keep_candidates: bool = False,
) -> Reading:
    """The reading that a threshold makes of an algorithm's candidates.

    Parameters
    ----------
    keep_candidates
        Whether a CC or MLO view of a whole breast keeps its candidates and the breast's extent, so that it can be read
        together with the other view (`mammoscope.inference.TwoViews`).
    """
    findings = tuple(finding for finding in candidates if finding.score >= threshold)
    extent = None
    if keep_candidates and is_whole_view(mammogram.view, mammogram.laterality, mammogram.view_modifiers):
        extent = breast_extent(find_breast_region(mammogram.pixels).mask, mammogram.columns)
    return Reading(
        name=mammogram.name,
        status=ReadingStatus.FOUND if findings else ReadingStatus.NOTHING_FOUND,
        findings=findings,
        rows=mammogram.rows,
        columns=mammogram.columns,
        laterality=mammogram.laterality,
        view=mammogram.view,
        algorithm=algorithm,
        threshold=threshold,
        below_threshold=tuple(candidates[len(findings) : len(findings) + MOST_BELOW_THRESHOLD]),
        candidates=tuple(candidates) if extent else (),
        extent=extent,
    )


def as_findings(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: tuple[str, ...],
    placement: Placement,
    mammogram: Mammogram | ReducedMammogram,
) -> tuple[Finding, ...]:
    """A network's raw output as findings on the mammogram, by falling score.

    Parameters
    ----------
    boxes, scores, labels
        Shapes (n, 4) in input pixels, (n,), and (n,) with indices into ``classes``.
    placement
        Where the network's input lies in the mammogram.

    Raises
    ------
    ModelError
        If a box or score is not finite, a score is not between 0 and 1, or a label has no class: whatever such a
        network found, "nothing found" must not be said of it.
    """
    _check_output(boxes, scores, labels, len(classes), mammogram.name)
    found = []
    for edges, score, label in zip(placement.to_file(boxes).tolist(), scores, labels, strict=True):
        x0, y0, x1, y1 = edges
        # A network may propose a box of no area or outside the image; it is no finding.
        box = Box(x0, y0, x1, y1).clipped(mammogram.rows, mammogram.columns) if x0 < x1 and y0 < y1 else None
        if box is not None:
            found.append(Finding(box, min(max(float(score), 0.0), 1.0), classes[int(label)]))
    return tuple(sorted(found, key=lambda finding: finding.score, reverse=True))


def _check_output(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], labels: NDArray[np.integer], classes: int, name: str
) -> None:
    wrong = None
    if boxes.shape != (len(scores), 4) or scores.ndim != 1 or labels.shape != scores.shape:
        wrong = "other arrays than boxes, scores and labels"
    elif not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        wrong = "a box or a score that is not a finite number"
    elif ((scores < -_TOLERANCE) | (scores > 1 + _TOLERANCE)).any():
        wrong = "a score that is not between 0 and 1"
    elif ((labels < 0) | (labels >= classes)).any():
        wrong = "a label that none of its classes has"
    if wrong is not None:
        raise ModelError(f"the model gave {wrong} for {name}: export the model again, or use another bundle")
