"""Curves in the coordinates of a drawing: what the page of results, SVG, PDF and CSV files are made of."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.matching import CENTRE, ImageResult, Matches, match_by
from mammoscope.evaluation.metrics import (
    Floats,
    band_of,
    bootstrap_weights,
    froc_curve,
    precision_at,
    precision_recall_curve,
    sensitivity_at,
)
from mammoscope.evaluation.reports.run_record import RunRecord
from mammoscope.evaluation.roc import RatedUnits, Unit, roc_curve

SIDE = 360
"""Side of a chart's square, in the drawing's units."""
FPPI_RANGE = (0.125, 8.0)
"""False positives per image on a FROC curve's axis, which is logarithmic."""
_BAND_POINTS = 97


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A curve's numbers in the axes' own units, as they were measured.

    Parameters
    ----------
    x, y
        Shape (points,).
    band_x, low, high
        Shape (band's points,): where the 95 % interval of y was taken, and its ends; empty where there is none.
    """

    name: str
    x: Floats
    y: Floats
    band_x: Floats = field(default_factory=lambda: np.empty(0))
    low: Floats = field(default_factory=lambda: np.empty(0))
    high: Floats = field(default_factory=lambda: np.empty(0))

    def __repr__(self) -> str:
        band = f", 95 % interval at {len(self.band_x)} places" if len(self.band_x) else ""
        return f"<Curve {self.name}: {len(self.x)} points{band}>"


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: ``points`` as SVG's polyline takes them, y down, from 0 to `SIDE`."""

    name: str
    points: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one pair of axes; x runs from 0 (or ``x_min``) to ``x_max``, y from 0 to ``y_max``.

    Parameters
    ----------
    x_min
        Where a logarithmic axis begins; 0 for a plain one.
    bands
        (line, points of a polygon) of 95 % intervals: the number of their line from 1, points as SVG takes them.
    curves
        The numbers behind the lines, for a CSV file.
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
    x_min: float = 0.0
    bands: tuple[tuple[int, str], ...] = ()
    curves: tuple[Curve, ...] = field(default=(), compare=False, repr=False)

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """(share of the axis, label)."""
        if not self.x_min:
            return [(step / 4, f"{self.x_max * step / 4:g}") for step in range(5)]
        steps = round(math.log2(self.x_max / self.x_min))
        return [(step / steps, _fraction(self.x_min * 2**step)) for step in range(steps + 1)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """(share of the axis, label)."""
        return [(step / 4, f"{self.y_max * step / 4:g}") for step in range(5)]


def _fraction(value: float) -> str:
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"


def curve_charts(results: Sequence[ImageResult], iou: float, resamples: int, seed: int) -> tuple[Chart, Chart]:
    """(FROC, precision-recall) by each rule of a hit, with the intervals of the evaluation's own rule, ``iou``."""
    at_iou, at_20, at_10, by_centre = match_by(results, (iou, 0.2, 0.1, CENTRE))
    weights = bootstrap_weights(at_iou.n_patients, resamples, seed) if resamples else None
    return (
        froc_chart((at_iou, at_20, at_10, by_centre), weights),
        precision_recall_chart((at_iou, at_20, at_10), weights),
    )


def precision_recall_chart(by_rule: Sequence[Matches], weights: Floats | None = None) -> Chart:
    """Precision over recall, a line for each rule of what a hit is.

    Parameters
    ----------
    weights
        Bootstrap resamples, shape (resamples, patients), for the first line's 95 % intervals; ``None`` for none.
    """
    lines, curves = [], []
    for matches in by_rule:
        recall, precision = precision_recall_curve(matches)
        start = precision[:1]
        x, y = np.append(start * 0, recall), np.append(start, precision)
        lines.append(line_of(matches.rule, x, y, 1.0))
        curves.append(Curve(matches.rule, x, y))
    bands: tuple[tuple[int, str], ...] = ()
    if weights is not None and len(curves[0].x):
        grid = np.linspace(0.01, 1.0, _BAND_POINTS)
        curves[0] = _with_band(curves[0], grid, precision_at(by_rule[0], grid.tolist(), weights))
        bands = ((1, _polygon(curves[0], lambda x: x)),)
    return Chart("Precision and recall", "recall", "precision", 1.0, tuple(lines), bands=bands, curves=tuple(curves))


def froc_chart(
    by_rule: Sequence[Matches], weights: Floats | None = None, fppi: tuple[float, float] = FPPI_RANGE
) -> Chart:
    """Sensitivity over false positives per image, in steps on a logarithmic axis, a line for each rule of a hit.

    Parameters
    ----------
    weights
        As for `precision_recall_chart`.
    fppi
        Where the axis begins and ends.
    """
    low, high = fppi

    def share(x: Floats) -> Floats:
        return np.asarray(np.log(x / low) / np.log(high / low), np.float64)

    lines, curves = [], []
    for matches in by_rule:
        x, y = (np.append(0.0, values) for values in froc_curve(matches))
        curves.append(Curve(matches.rule, x, y))
        begin = y[x <= low][-1]
        inside = (x > low) & (x <= high)
        steps_x = np.concatenate([[low], np.repeat(x[inside], 2), [high]])
        steps_y = np.repeat(np.append(begin, y[inside]), 2)
        lines.append(line_of(matches.rule, share(steps_x), steps_y, 1.0))
    bands: tuple[tuple[int, str], ...] = ()
    if weights is not None and len(by_rule[0].image_of_lesion):
        grid = np.geomspace(low, high, _BAND_POINTS)
        curves[0] = _with_band(curves[0], grid, sensitivity_at(by_rule[0], grid.tolist(), weights))
        bands = ((1, _polygon(curves[0], share)),)
    return Chart(
        "FROC", "false positives per image", "sensitivity", high, tuple(lines), x_min=low, bands=bands,
        curves=tuple(curves),
    )  # fmt: skip


def _with_band(curve: Curve, grid: Floats, drawn: Floats) -> Curve:
    low, high = band_of(drawn)
    known = ~np.isnan(low)
    return Curve(curve.name, curve.x, curve.y, grid[known], low[known], high[known])


def _polygon(curve: Curve, share: Callable[[Floats], Floats]) -> str:
    """A band's outline, forth along its lower ends and back along its upper ones."""
    x = share(curve.band_x) * SIDE
    outline = [*zip(x, (1 - curve.low) * SIDE, strict=True), *reversed([*zip(x, (1 - curve.high) * SIDE, strict=True)])]
    return " ".join(f"{round(a, 1):g},{round(b, 1):g}" for a, b in outline)


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


_MOST_POINTS = 300


def training_charts(run: RunRecord) -> list[Chart]:
    """Loss, learning rate and the figures on validation over the iterations of a run, as far as they are there."""
    charts = []
    x_max = round_up(float(max((*run.steps, *run.validations), default=1)))
    loss, rate = (_of_steps(run, key) for key in ("loss", "learning_rate"))
    if loss:
        x, y = _thinned(loss)
        y_max = round_up(float(y.max()))
        line = line_of("loss", x, y, x_max, y_max)
        charts.append(Chart("Training loss", "iteration", "loss", x_max, (line,), y_max=y_max))
    highest = max(rate.values(), default=0.0)
    if highest > 0:
        x, y = _thinned(rate)
        line = line_of("learning rate", x, y / highest, x_max)
        charts.append(
            Chart(f"Learning rate, highest {highest:.3g}", "iteration", "part of the highest", x_max, (line,))
        )
    names = {"ap50": "AP50", "ap20": "AP at IoU 0.2", "f1": "F1"}
    lines, dots = [], []
    for key, name in names.items():
        known = {n: float(figures[key]) for n, figures in run.validations.items() if figures.get(key) is not None}
        if known:
            lines.append(line_of(name, *_thinned(known), x_max))
        if len(known) == 1:  # a line takes two
            ((at, value),) = known.items()
            dots.append((len(lines), round(SIDE * at / x_max, 1), round(SIDE * (1 - value), 1), 4.0))
    if lines:
        charts.append(Chart("On validation", "iteration", "figure", x_max, tuple(lines), dots=tuple(dots)))
    return charts


def _of_steps(run: RunRecord, key: str) -> dict[int, float]:
    return {n: float(step[key]) for n, step in run.steps.items() if step.get(key) is not None}


def _thinned(values: Mapping[int, float]) -> tuple[Floats, Floats]:
    """(iteration, value), neighbours averaged until no more than `_MOST_POINTS` are left; the last stays as it is."""
    x, y = np.array(list(values), np.float64), np.array(list(values.values()), np.float64)
    if len(x) <= _MOST_POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x) - 1), _MOST_POINTS - 1)
    means = (np.append([whole[part].mean() for part in parts], whole[-1]) for whole in (x, y))
    return next(means), next(means)
