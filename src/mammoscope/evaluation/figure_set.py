"""Every figure that a report gives, by its name there, for any number of bootstrap resamples."""

from collections.abc import Mapping, Sequence

import numpy as np

from mammoscope.evaluation.error_kinds import ErrorKind, count_errors, mended_precision
from mammoscope.evaluation.figures import (
    Floats,
    area_under_precision_recall,
    average_precision,
    count_at,
    false_positives_per_image,
    sensitivity_at,
)
from mammoscope.evaluation.matching import CENTRE, ImageResult, Matches, match_by
from mammoscope.evaluation.reliability import BINS, calibration_error, shares_of_hits
from mammoscope.evaluation.roc import RatedUnits, Unit, rate, roc_auc

FPPI = (0.25, 0.5, 1.0, 2.0)
"""False positives per image at which the sensitivity is given."""
IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""The IoUs over which COCO averages AP."""
FROC_RULES: Mapping[str, float | None] = {"froc": 0.5, "froc_iou20": 0.2, "froc_iou10": 0.1, "froc_centre": CENTRE}
"""What a hit is, by the name of the FROC figures; that of ``froc`` is the evaluation's own."""
FROC_MEANS: Mapping[str, tuple[float, ...]] = {
    "mean": FPPI,
    "cpm": (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "camelyon16": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "dbtex": (1.0, 2.0, 3.0, 4.0),
}
"""Over which false positives per image the field averages sensitivity.

``cpm``: the competition performance metric of ANODE09 and LUNA16 (van Ginneken et al. 2010; Setio et al. 2017).
``camelyon16``: Ehteshami Bejnordi et al. 2017. ``dbtex``: the tomosynthesis challenge of Konz et al. 2023.
"""


class FigureSet:
    """The figures of one detector on one set of images; matching is done once.

    Parameters
    ----------
    results
        One an image.
    iou
        Least IoU of a hit for precision, recall, F1, ``froc`` and calibration.
    threshold
        The operating point.
    """

    def __init__(self, results: Sequence[ImageResult], iou: float, threshold: float) -> None:
        levels = tuple(dict.fromkeys((*IOUS, *FROC_RULES.values(), iou)))
        self._at: dict[float | None, Matches] = dict(zip(levels, match_by(results, levels), strict=True))
        self._iou, self._threshold = iou, threshold
        self.units: dict[Unit, RatedUnits] = {unit: rate(results, unit) for unit in Unit}

    @property
    def matches(self) -> Matches:
        """Matched at the evaluation's own IoU."""
        return self._at[self._iou]

    def figures(self, weights: Floats | None = None) -> dict[str, Floats]:
        """By name, each of shape (resamples,); NaN where undefined."""
        coco = [average_precision(self._at[level], weights) for level in IOUS]
        return {
            "ap50": coco[0],
            "ap20": average_precision(self._at[0.2], weights),
            "ap10": average_precision(self._at[0.1], weights),
            "ap50_95": np.mean(coco, axis=0),
            "ap50_area": area_under_precision_recall(self._at[0.5], weights),
            **self._at_the_operating_point(weights),
            **self._froc(weights),
            **{f"auc_{unit}": roc_auc(rated, weights) for unit, rated in self.units.items()},
            **{f"dap50_{kind}": gain for kind, gain in mended_precision(self._at[0.5], weights).items()},
            "calibration_error": calibration_error(self.matches, weights),
            **{f"reliability_{n / BINS:g}": share for n, share in enumerate(shares_of_hits(self.matches, weights).T)},
        }

    def _at_the_operating_point(self, weights: Floats | None) -> dict[str, Floats]:
        counts = count_at(self.matches, self._threshold, weights)
        normal = self.matches.kept(images=self.matches.n_truth == 0)
        kinds = count_errors(self._at[0.5], self._threshold, weights)
        return {
            "precision": counts.precision,
            "recall": counts.recall,
            "f1": counts.f1,
            "true_positives": counts.true_positives,
            "false_positives": counts.false_positives,
            "false_negatives": counts.false_negatives,
            "fppi": false_positives_per_image(self.matches, self._threshold, weights),
            "fppi_without_boxes": false_positives_per_image(normal, self._threshold, weights),
            **{f"errors_{kind}": kinds[kind] for kind in ErrorKind},
        }

    def _froc(self, weights: Floats | None) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        points = sorted({x for convention in FROC_MEANS.values() for x in convention})
        for name, level in FROC_RULES.items():
            matches = self.matches if name == "froc" else self._at[level]
            sensitivity = dict(zip(points, sensitivity_at(matches, points, weights).T, strict=True))
            found |= {f"{name}_{x:g}": sensitivity[x] for x in FPPI}
            for convention, averaged in FROC_MEANS.items():
                found[f"{name}_{convention}"] = np.mean([sensitivity[x] for x in averaged], axis=0)
        return found
