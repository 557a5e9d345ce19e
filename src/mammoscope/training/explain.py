"""Reading and explaining a mammogram with the detector of a run, before there is a bundle of it."""

import json
from dataclasses import dataclass
from typing import Self

from mammoscope import __version__
from mammoscope.detectors import MassDetector, Part, gradient_maps, shuffled
from mammoscope.explain import HeatMap
from mammoscope.findings import Algorithm, Finding, Reading, ReadingStatus
from mammoscope.imaging import InputGeometry, Mammogram
from mammoscope.training.checkpoint import RunFolder
from mammoscope.training.errors import TrainingError
from mammoscope.training.export import trained_detector
from mammoscope.training.validation import candidates


@dataclass(frozen=True, slots=True, eq=False)
class RunReader:
    """The detector of a run's last checkpoint, ready to read and to explain.

    Parameters
    ----------
    algorithm
        The run's name, and Mammoscope's version with the checkpoint's iteration.
    """

    run: RunFolder
    detector: MassDetector
    geometry: InputGeometry
    algorithm: Algorithm

    @classmethod
    def open(cls, run: RunFolder) -> Self:
        """Load the checkpoint.

        Raises
        ------
        TrainingError
            If the folder is not a run's, has no checkpoint, or one of another model.
        """
        recipe = run.recipe()
        algorithm = Algorithm(f"mammoscope-{recipe.name}", f"{__version__}+iteration-{run.load().iteration}")
        return cls(run, trained_detector(run), recipe.input.geometry, algorithm)

    @property
    def threshold(self) -> float:
        """The operating point chosen on the run's validation images.

        Raises
        ------
        TrainingError
            If the run has not come to its end, where it is chosen.
        """
        file = self.run.path / "validation" / "metrics.json"
        try:
            return float(json.loads(file.read_text(encoding="utf-8"))["threshold"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{self.run.path} has no operating point, which is chosen when a run ends: give --threshold"
            ) from error

    def candidates(self, mammogram: Mammogram) -> tuple[Finding, ...]:
        """Everything the detector proposes, by falling score."""
        return candidates(self.detector, self.geometry, mammogram)

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        """The reading of a mammogram at a threshold, or at the run's operating point."""
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

    def explain(self, mammogram: Mammogram, findings: tuple[Finding, ...]) -> list[HeatMap]:
        """`mammoscope.detectors.gradient_maps` of these findings."""
        return gradient_maps(self.detector, self.geometry, mammogram, findings)

    def explain_shuffled(self, mammogram: Mammogram, findings: tuple[Finding, ...], part: Part) -> list[HeatMap]:
        """The same of a detector with shuffled weights."""
        return gradient_maps(shuffled(self.detector, part), self.geometry, mammogram, findings)
