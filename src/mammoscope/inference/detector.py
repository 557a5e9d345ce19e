"""Running a bundle on a mammogram."""

from pathlib import Path

import numpy as np

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Mammogram, prepare
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

    def candidates(self, mammogram: Mammogram) -> tuple[Finding, ...]:
        """Everything the network proposes, however unlikely, by falling score."""
        metadata = self.bundle.metadata
        prepared = prepare(mammogram, metadata.input.geometry)
        boxes, scores, labels = self.bundle.session.run(
            ["boxes", "scores", "labels"], {"image": prepared.pixels[np.newaxis, np.newaxis]}
        )
        found = []
        for edges, score, label in zip(prepared.placement.to_file(boxes), scores, labels, strict=True):
            box = _box_inside(edges.tolist(), mammogram)
            if box is not None:
                found.append(Finding(box, min(max(float(score), 0.0), 1.0), metadata.classes[int(label)]))
        return tuple(sorted(found, key=lambda finding: finding.score, reverse=True))

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        """The reading of a mammogram at a threshold, or at the default operating point."""
        threshold = self.threshold if threshold is None else threshold
        findings = tuple(finding for finding in self.candidates(mammogram) if finding.score >= threshold)
        return Reading(
            name=mammogram.name,
            status=ReadingStatus.FOUND if findings else ReadingStatus.NOTHING_FOUND,
            findings=findings,
            rows=mammogram.rows,
            columns=mammogram.columns,
            laterality=mammogram.laterality,
            view=mammogram.view,
            algorithm=self.algorithm,
            threshold=threshold,
        )


def _box_inside(edges: list[float], mammogram: Mammogram) -> Box | None:
    x0, y0, x1, y1 = edges
    # A network may propose a box of no area; it is no finding.
    return Box(x0, y0, x1, y1).clipped(mammogram.rows, mammogram.columns) if x0 < x1 and y0 < y1 else None
