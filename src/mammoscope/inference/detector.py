"""Running a bundle on a mammogram."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Mammogram, Placement, prepare
from mammoscope.inference.bundle import Bundle


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

    def candidates(self, mammogram: Mammogram) -> tuple[Finding, ...]:
        """Everything the network proposes, however unlikely, by falling score.

        Where the bundle holds a calibration, scores are probabilities.
        """
        metadata = self.bundle.metadata
        prepared = prepare(mammogram, metadata.input.preprocessing)
        boxes, raw, labels = self.bundle.run(prepared.pixels)
        scores = raw if metadata.calibration is None else metadata.calibration.probability(raw)
        return as_findings(boxes, scores, labels, metadata.classes, prepared.placement, mammogram)

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        """The reading of a mammogram at a threshold, or at the default operating point."""
        threshold = self.threshold if threshold is None else threshold
        return reading_at(threshold, mammogram, self.candidates(mammogram), self.algorithm)


def reading_at(threshold: float, mammogram: Mammogram, candidates: Sequence[Finding], algorithm: Algorithm) -> Reading:
    """The reading that a threshold makes of an algorithm's candidates."""
    findings = tuple(finding for finding in candidates if finding.score >= threshold)
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
    )


def as_findings(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: tuple[str, ...],
    placement: Placement,
    mammogram: Mammogram,
) -> tuple[Finding, ...]:
    """A network's raw output as findings on the mammogram, by falling score.

    Parameters
    ----------
    boxes, scores, labels
        Shapes (n, 4) in input pixels, (n,), and (n,) with indices into ``classes``.
    placement
        Where the network's input lies in the mammogram.
    """
    found = []
    for edges, score, label in zip(placement.to_file(boxes).tolist(), scores, labels, strict=True):
        x0, y0, x1, y1 = edges
        # A network may propose a box of no area or outside the image; it is no finding.
        box = Box(x0, y0, x1, y1).clipped(mammogram.rows, mammogram.columns) if x0 < x1 and y0 < y1 else None
        if box is not None:
            found.append(Finding(box, min(max(float(score), 0.0), 1.0), classes[int(label)]))
    return tuple(sorted(found, key=lambda finding: finding.score, reverse=True))
