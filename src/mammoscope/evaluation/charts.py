"""Curves in the coordinates of a drawing, for the HTML report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.figures import Floats, froc_curve, precision_recall_curve
from mammoscope.evaluation.matching import Matches

SIDE = 360
"""Side of a chart's square, in the drawing's units."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: ``points`` as SVG's polyline takes them, y down, from 0 to `SIDE`."""

    name: str
    points: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one pair of axes; x runs from 0 to ``x_max``, y from 0 to 1.

    Parameters
    ----------
    diagonal
        Whether to draw y = x, where a calibrated score lies.
    dots
        (x, y, radius) of points, in the drawing's units.
    """

    title: str
    x_name: str
    y_name: str
    x_max: float
    lines: tuple[Line, ...]
    diagonal: bool = False
    dots: tuple[tuple[float, float, float], ...] = ()

    @property
    def ticks(self) -> list[tuple[float, str, str]]:
        """(share of the axis, label on x, label on y)."""
        return [(step / 4, f"{self.x_max * step / 4:g}", f"{step / 4:g}") for step in range(5)]


def precision_recall_chart(by_rule: Sequence[Matches]) -> Chart:
    """Precision over recall, a line for each rule of what a hit is."""
    lines = []
    for matches in by_rule:
        recall, precision = precision_recall_curve(matches)
        start = precision[:1]
        lines.append(_line(matches.rule, np.append(start * 0, recall), np.append(start, precision), 1.0))
    return Chart("Precision and recall", "recall", "precision", 1.0, tuple(lines))


def froc_chart(by_rule: Sequence[Matches], max_fppi: float = 4.0) -> Chart:
    """Sensitivity over false positives per image, in steps, a line for each rule of what a hit is."""
    lines = []
    for matches in by_rule:
        fppi, sensitivity = (np.append(0.0, values) for values in froc_curve(matches))
        inside = fppi <= max_fppi
        x = np.append(np.repeat(fppi[inside], 2)[1:], max_fppi)
        lines.append(_line(matches.rule, x, np.repeat(sensitivity[inside], 2), max_fppi))
    return Chart("FROC", "false positives per image", "sensitivity", max_fppi, tuple(lines))


def reliability_chart(bins: Sequence[dict[str, Any]]) -> Chart:
    """Share of hits over the mean score of each bin, as a dot whose area grows with the logarithm of its candidates.

    Parameters
    ----------
    bins
        ``reliability`` of metrics.json.
    """
    dots = tuple(
        (
            round(SIDE * b["mean_score"], 1),
            round(SIDE * (1 - b["share_of_hits"]), 1),
            round(2 + 2 * float(np.sqrt(np.log10(b["n"]))), 1),
        )
        for b in bins
        if b["n"]
    )
    points = " ".join(f"{x:g},{y:g}" for x, y, _ in dots)
    return Chart("Reliability", "score", "share of hits", 1.0, (Line("candidates", points),), diagonal=True, dots=dots)


def _line(name: str, x: Floats, y: Floats, x_max: float) -> Line:
    points = np.stack([x / x_max * SIDE, (1 - y) * SIDE], axis=1).round(1)
    return Line(name, " ".join(f"{a:g},{b:g}" for a, b in _without_middles(points)))


def _without_middles(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points without doubles and those inside an upright or level stretch: the line looks the same."""
    points = points[np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))[: len(points)]]
    inner = np.zeros(len(points), bool)
    step = np.diff(points, axis=0)
    inner[1:-1] = ((step[:-1] * step[1:] >= 0) & (np.roll(step[:-1], 1, 1) == 0) & (np.roll(step[1:], 1, 1) == 0)).any(
        1
    )
    return points[~inner]
