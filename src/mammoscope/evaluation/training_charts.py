"""The curves of a training run as charts."""

from collections.abc import Mapping

import numpy as np

from mammoscope.evaluation.charts import Chart, line_of, round_up
from mammoscope.evaluation.figures import Floats
from mammoscope.evaluation.run_record import RunRecord

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
