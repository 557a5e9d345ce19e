from dataclasses import asdict

import pytest

from mammoscope.evaluation import CENTRE, ImageResult, match, match_by, reliability
from mammoscope.evaluation.reports.charts import (
    SIDE,
    curve_charts,
    froc_chart,
    precision_recall_chart,
    reliability_chart,
)
from mammoscope.findings import Box, Finding

A, B, NOWHERE = Box(0, 0, 10, 10), Box(50, 50, 60, 60), Box(100, 100, 110, 110)


def results():
    """One image, two lesions: .9 hit, .8 nothing, .7 hit."""
    return [ImageResult(1, "p", (A, B), (Finding(A, 0.9), Finding(NOWHERE, 0.8), Finding(B, 0.7)))]


def points(line):
    return [tuple(float(v) / SIDE for v in pair.split(",")) for pair in line.points.split()]


def test_precision_recall_starts_at_recall_0():
    (line,) = precision_recall_chart([match(results(), 0.5)]).lines
    # recall 0 to 1/2 at precision 1, then 1/2 at the same recall, 2/3 at recall 1; y runs down
    expected = [(0, 0), (0.5, 0), (0.5, 0.5), (1, 1 / 3)]
    assert [pytest.approx(pair, abs=1e-3) for pair in expected] == points(line)


def test_froc_is_a_staircase_on_a_logarithmic_axis():
    (line,) = froc_chart([match(results(), 0.5)], fppi=(0.25, 4)).lines
    # half from the start, level until one false positive per image (half way from 1/4 to 4), up to 1, level to the edge
    expected = [(0, 0.5), (0.5, 0.5), (0.5, 0), (1, 0)]
    assert [pytest.approx(pair, abs=1e-3) for pair in expected] == points(line)


def test_beyond_the_edge_nothing_is_drawn():
    alarms = [ImageResult(1, "p", (A,), (*(Finding(NOWHERE, 0.9) for _ in range(5)), Finding(A, 0.5)))]
    (line,) = froc_chart([match(alarms, 0.5)], fppi=(0.25, 4)).lines
    assert points(line) == [(0, 1), (1, 1)]


def test_each_rule_has_a_line_of_its_name():
    chart = froc_chart(match_by(results(), (0.5, CENTRE)))
    assert [line.name for line in chart.lines] == ["IoU 0.5", "centre in the box"]
    assert chart.x_ticks == [
        (0, "1/8"), (1 / 6, "1/4"), (2 / 6, "1/2"), (3 / 6, "1"), (4 / 6, "2"), (5 / 6, "4"), (1, "8")
    ]  # fmt: skip
    assert chart.y_ticks[2] == (0.5, "0.5")


def test_bands_are_the_bootstrap_at_each_place():
    """Two patients, one whose lesion is found and one whose is not: resamples find 0, 1/2 or 1 of the lesions."""
    found = ImageResult(1, "p", (A,), (Finding(A, 0.9),))
    missed = ImageResult(2, "q", (A,), (Finding(NOWHERE, 0.8),))
    froc, precision_recall = curve_charts([found, missed], 0.5, resamples=400, seed=0)
    curve = froc.curves[0]
    assert (curve.low == 0).all()
    assert (curve.high == 1).all()
    assert curve.band_x[[0, -1]] == pytest.approx([0.125, 8])
    assert [number for number, _ in froc.bands] == [1]
    assert froc.bands[0][1].split()[0] == f"0,{SIDE}"
    assert precision_recall.curves[0].low.max() == 1  # where a recall is reached, nothing false came before
    assert curve_charts([found, missed], 0.5, resamples=0, seed=0)[0].bands == ()


def test_empty_bins_have_no_dot():
    matches = match(results(), 0.5)
    bins = [asdict(b) for b in reliability(matches)]
    chart = reliability_chart({"now": bins, "before": bins[:8]}, {"reliability_0.9": (0.5, 1.0)})
    assert [(number, x / SIDE, y / SIDE) for number, x, y, _ in chart.dots] == [
        pytest.approx(pair, abs=1e-3) for pair in ((1, 0.7, 0), (1, 0.8, 1), (1, 0.9, 0), (2, 0.7, 0))
    ]
    assert chart.diagonal
    assert [(number, x / SIDE, low / SIDE, high / SIDE) for number, x, low, high in chart.spans] == [
        pytest.approx((1, 0.9, 0.5, 0.0), abs=1e-3)
    ]


def test_nothing_found_draws_empty_charts():
    nothing = match([ImageResult(1, "p", (A,), ())], 0.5)
    assert precision_recall_chart([nothing]).lines[0].points == ""
    assert points(froc_chart([nothing]).lines[0]) == [(0, 1), (1, 1)]
    empty = {"low": 0.0, "n": 0, "mean_score": None, "share_of_hits": None}
    assert reliability_chart({"now": [empty]}, {}).dots == ()
