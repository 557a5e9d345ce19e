"""Curves in the coordinates of a drawing, for the HTML report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.figures import Floats, froc_curve, precision_recall_curve
from mammoscope.evaluation.matching import Matches
from mammoscope.evaluation.roc import RatedUnits, Unit, roc_curve

SIDE = 360
"""Side of a chart's square, in the drawing's units."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: ``points`` as SVG's polyline takes them, y down, from 0 to `SIDE`."""

    name: str
    points: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one pair of axes; x runs from 0 to ``x_max``, y from 0 to ``y_max``.

    Parameters
    ----------
    diagonal
        Whether to draw y = x, where a calibrated score lies.
    dots
        (line, x, y, radius) of points: the number of their line from 1, the rest in the drawing's units.
    spans
        (line, x, low, high) of intervals along y, likewise.
    columns
        (x, y, width, height) of a histogram's columns, in the drawing's units.
    """

    title: str
    x_name: str
    y_name: str
    x_max: float
    lines: tuple[Line, ...]
    y_max: float = 1.0
    diagonal: bool = False
    dots: tuple[tuple[int, float, float, float], ...] = ()
    spans: tuple[tuple[int, float, float, float], ...] = ()
    columns: tuple[tuple[float, float, float, float], ...] = ()

    @property
    def ticks(self) -> list[tuple[float, str, str]]:
        """(share of the axis, label on x, label on y)."""
        return [(step / 4, f"{self.x_max * step / 4:g}", f"{self.y_max * step / 4:g}") for step in range(5)]


def precision_recall_chart(by_rule: Sequence[Matches]) -> Chart:
    """Precision over recall, a line for each rule of what a hit is."""
    lines = []
    for matches in by_rule:
        recall, precision = precision_recall_curve(matches)
        start = precision[:1]
        lines.append(line_of(matches.rule, np.append(start * 0, recall), np.append(start, precision), 1.0))
    return Chart("Precision and recall", "recall", "precision", 1.0, tuple(lines))


def froc_chart(by_rule: Sequence[Matches], max_fppi: float = 4.0) -> Chart:
    """Sensitivity over false positives per image, in steps, a line for each rule of what a hit is."""
    lines = []
    for matches in by_rule:
        fppi, sensitivity = (np.append(0.0, values) for values in froc_curve(matches))
        inside = fppi <= max_fppi
        x = np.append(np.repeat(fppi[inside], 2)[1:], max_fppi)
        lines.append(line_of(matches.rule, x, np.repeat(sensitivity[inside], 2), max_fppi))
    return Chart("FROC", "false positives per image", "sensitivity", max_fppi, tuple(lines))


def roc_chart(units: Mapping[Unit, RatedUnits]) -> Chart | None:
    """Sensitivity over 1 - specificity for each unit that has both kinds; ``None`` where there is none."""
    lines = [
        line_of(f"{unit}s", *roc_curve(rated), 1.0) for unit, rated in units.items() if rated.n_with and rated.n_without
    ]
    return Chart("ROC", "1 - specificity", "sensitivity", 1.0, tuple(lines), diagonal=True) if lines else None


def reliability_chart(
    by_name: Mapping[str, Sequence[Mapping[str, Any]]], intervals: Mapping[str, Sequence[float]]
) -> Chart:
    """Share of hits over the mean score of each bin, as a dot whose area grows with the logarithm of its candidates.

    Parameters
    ----------
    by_name
        The bins of ``reliability`` of metrics.json, by the name of their line.
    intervals
        Those of metrics.json; the first line's dots get them.
    """
    lines, dots, spans = [], [], []
    for number, (name, bins) in enumerate(by_name.items(), start=1):
        mine = [_dot(b) for b in bins if b["n"]]
        lines.append(Line(name, " ".join(f"{x:g},{y:g}" for x, y, _ in mine)))
        dots += [(number, *dot) for dot in mine]
        if number == 1:
            for b in bins:
                if b["n"] and (interval := intervals.get(f"reliability_{b['low']:g}")):
                    low, high = (round(SIDE * (1 - share), 1) for share in interval)
                    spans.append((number, _dot(b)[0], low, high))
    return Chart(
        "Reliability", "score", "share of hits", 1.0, tuple(lines), diagonal=True, dots=tuple(dots), spans=tuple(spans)
    )


def _dot(b: Mapping[str, Any]) -> tuple[float, float, float]:
    """(x, y, radius) of a bin."""
    return (
        round(SIDE * b["mean_score"], 1),
        round(SIDE * (1 - b["share_of_hits"]), 1),
        round(2 + 2 * float(np.sqrt(np.log10(b["n"]))), 1),
    )


def size_chart(edges: Floats, counts: NDArray[np.intp]) -> Chart:
    """How many lesions there are of each size."""
    x_max, y_max = float(edges[-1]), round_up(float(counts.max(initial=1)))
    columns = tuple(
        (
            round(float(low) / x_max * SIDE, 1),
            round(SIDE * (1 - int(n) / y_max), 1),
            round(float(high - low) / x_max * SIDE, 1),
            round(SIDE * int(n) / y_max, 1),
        )
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
        if n
    )
    title = "Sizes of the lesions"
    return Chart(title, "% of the image's side", "lesions", x_max, (), y_max=y_max, columns=columns)


def line_of(name: str, x: Floats, y: Floats, x_max: float, y_max: float = 1.0) -> Line:
    """A curve through points in the axes' own units; x runs to ``x_max``, y to ``y_max``."""
    points = np.stack([x / x_max * SIDE, (1 - y / y_max) * SIDE], axis=1).round(1)
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


def round_up(value: float) -> float:
    """The next value whose quarters are short to write."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(m * power for m in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10) if m * power >= value * (1 - 1e-9)))
