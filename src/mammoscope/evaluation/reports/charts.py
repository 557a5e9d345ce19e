"""Curves in the coordinates of a drawing, for the HTML report.

The curves of a training run as charts.

The precision-recall and FROC curves as pictures, drawn with OpenCV alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.matching import Matches
from mammoscope.evaluation.metrics import Floats, froc_curve, precision_recall_curve
from mammoscope.evaluation.reports.run_record import RunRecord
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
    lines = []
    for key, name in names.items():
        known = {n: float(figures[key]) for n, figures in run.validations.items() if figures.get(key) is not None}
        if known:
            lines.append(line_of(name, *_thinned(known), x_max))
    if lines:
        charts.append(Chart("On validation", "iteration", "figure", x_max, tuple(lines)))
    return charts


def _of_steps(run: RunRecord, key: str) -> dict[int, float]:
    return {n: float(step[key]) for n, step in run.steps.items() if step.get(key) is not None}


def _thinned(values: Mapping[int, float]) -> tuple[Floats, Floats]:
    """(iteration, value), neighbours averaged until no more than `_MOST_POINTS` are left."""
    x, y = np.array(list(values), np.float64), np.array(list(values.values()), np.float64)
    parts = np.array_split(np.arange(len(x)), min(len(x), _MOST_POINTS))
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


Picture = NDArray[np.uint8]

_SIDE, _LEFT, _TOP = 640, 80, 50  # the plot's square and its place in the picture
_ROWS, _COLUMNS = _TOP + _SIDE + 80, _LEFT + _SIDE + 40
_INK, _GRID, _LINE = (40, 40, 40), (220, 220, 220), (20, 90, 180)


def draw_precision_recall(matches: Matches) -> Picture:
    """Precision over recall; shape (rows, columns, 3), RGB."""
    recall, precision = precision_recall_curve(matches)
    start = precision[0] if len(precision) else 0.0
    title = f"Precision-recall, {matches.rule}"
    return _plot(title, "recall", "precision", np.append(0.0, recall), np.append(start, precision), 1.0, 5)


def draw_froc(matches: Matches, max_fppi: float = 4.0) -> Picture:
    """Sensitivity over false positives per image, in steps; shape (rows, columns, 3), RGB."""
    fppi, sensitivity = froc_curve(matches)
    x, y = np.append(0.0, fppi), np.append(0.0, sensitivity)
    last = float(y[x <= max_fppi][-1])
    steps_x = np.append(np.repeat(x, 2)[1:], max_fppi)  # flat until the next threshold adds a false positive
    steps_y = np.append(np.repeat(y, 2)[:-1], last)
    inside = steps_x <= max_fppi
    title = f"FROC, {matches.rule}"
    return _plot(title, "false positives per image", "sensitivity", steps_x[inside], steps_y[inside], max_fppi, 4)


def _plot(title: str, x_name: str, y_name: str, x: Floats, y: Floats, x_max: float, x_steps: int) -> Picture:
    canvas = np.full((_ROWS, _COLUMNS, 3), 255, np.uint8)
    for step in range(x_steps + 1):
        at = round(_SIDE * step / x_steps)
        cv2.line(canvas, (_LEFT + at, _TOP), (_LEFT + at, _TOP + _SIDE), _GRID)
        _text(canvas, f"{x_max * step / x_steps:.1f}", (_LEFT + at - 14, _TOP + _SIDE + 25))
    for step in range(6):
        at = round(_SIDE * step / 5)
        cv2.line(canvas, (_LEFT, _TOP + at), (_LEFT + _SIDE, _TOP + at), _GRID)
        _text(canvas, f"{1 - step / 5:.1f}", (_LEFT - 42, _TOP + at + 6))
    cv2.rectangle(canvas, (_LEFT, _TOP), (_LEFT + _SIDE, _TOP + _SIDE), _INK)
    points = np.stack([_LEFT + x / x_max * _SIDE, _TOP + (1 - y) * _SIDE], axis=1).round().astype(np.int32)
    cv2.polylines(canvas, [points], isClosed=False, color=_LINE, thickness=2, lineType=cv2.LINE_AA)
    _text(canvas, title, (_LEFT, _TOP - 18))
    _text(canvas, x_name, (_LEFT + _SIDE // 2 - 5 * len(x_name), _TOP + _SIDE + 58))
    sideways = np.full((30, _SIDE, 3), 255, np.uint8)
    _text(sideways, y_name, (_SIDE // 2 - 5 * len(y_name), 21))
    canvas[_TOP : _TOP + _SIDE, 4:34] = np.rot90(sideways)
    return canvas


def _text(canvas: Picture, text: str, at: tuple[int, int]) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, _INK, 1, cv2.LINE_AA)
