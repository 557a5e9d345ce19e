"""Reading and explaining a mammogram with the detector of a run, before there is a bundle of it."""

import json
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from mammoscope import __version__
from mammoscope.detectors import MassDetector, Part, gradient_maps, shuffled
from mammoscope.explain import HeatMap
from mammoscope.findings import Algorithm, Finding, Reading
from mammoscope.imaging import Mammogram, Preprocessing
from mammoscope.inference import Calibration, reading_at
from mammoscope.training.checkpoint import RunFolder
from mammoscope.training.errors import TrainingError
from mammoscope.training.onnx_export import trained_detector
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
    geometry: Preprocessing
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
        closing = self._closing_report()
        if closing is None:
            raise TrainingError(
                f"{self.run.path} has no operating point, which is chosen when a run ends: give --threshold"
            )
        return closing[0]

    def candidates(self, mammogram: Mammogram) -> tuple[Finding, ...]:
        """All the detector proposes, by falling score; once the run has ended, probabilities as in its bundle."""
        found = candidates(self.detector, self.geometry, mammogram)
        _, calibration = self._closing_report() or (None, None)
        if calibration is None:
            return found
        scores = calibration.probability(np.array([finding.score for finding in found])).tolist()
        return tuple(replace(finding, score=score) for finding, score in zip(found, scores, strict=True))

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        """The reading of a mammogram at a threshold, or at the run's operating point."""
        threshold = self.threshold if threshold is None else threshold
        return reading_at(threshold, mammogram, self.candidates(mammogram), self.algorithm)

    def explain(self, mammogram: Mammogram, findings: tuple[Finding, ...]) -> list[HeatMap]:
        """`mammoscope.detectors.gradient_maps` of these findings."""
        return gradient_maps(self.detector, self.geometry, mammogram, findings)

    def explain_shuffled(self, mammogram: Mammogram, findings: tuple[Finding, ...], part: Part) -> list[HeatMap]:
        """The same of a detector with shuffled weights."""
        return gradient_maps(shuffled(self.detector, part), self.geometry, mammogram, findings)

    def _closing_report(self) -> tuple[float, Calibration | None] | None:
        """The operating point and the calibration that were chosen at the run's end; ``None`` before."""
        file = self.run.path / "validation" / "metrics.json"
        try:
            closing = json.loads(file.read_text(encoding="utf-8"))
            calibration = closing.get("calibration")
            return float(closing["threshold"]), calibration and Calibration.model_validate(calibration)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
