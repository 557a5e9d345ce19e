"""Kinds of error, by hand and beside TIDE's own program."""

import math

import numpy as np
import pytest

from mammoscope.evaluation import (
    ErrorKind,
    ImageResult,
    average_precision,
    corrected_precision,
    count_errors,
    evaluate,
    match,
)
from mammoscope.findings import Box, Finding

A, B, NOWHERE = Box(0, 0, 10, 10), Box(50, 50, 60, 60), Box(100, 100, 110, 110)
BESIDE_A, BESIDE_B = Box(0, 0, 10, 4), Box(50, 50, 60, 53)  # IoU 0.4 with A, 0.3 with B
MISSED, LOCALISATION, DUPLICATE, BACKGROUND = ErrorKind


def gains(*results: ImageResult) -> dict[ErrorKind, float]:
    return {kind: float(gain[0]) for kind, gain in corrected_precision(match(results, 0.5)).items()}


def test_each_kind_is_told():
    result = ImageResult(
        1, "p", (A, B, NOWHERE),
        (Finding(A, 0.9), Finding(A, 0.8), Finding(BESIDE_B, 0.7), Finding(Box(200, 0, 210, 10), 0.6)),
    )  # fmt: skip
    assert count_errors(match([result], 0.5), 0.0) == {MISSED: 1, LOCALISATION: 1, DUPLICATE: 1, BACKGROUND: 1}
    # above 0.75 nothing points at B any more: it is missed like the third
    assert count_errors(match([result], 0.5), 0.75) == {MISSED: 2, LOCALISATION: 0, DUPLICATE: 1, BACKGROUND: 0}


def test_a_badly_placed_candidate_at_a_lesion_that_is_found_is_no_miss():
    result = ImageResult(1, "p", (A,), (Finding(A, 0.9), Finding(BESIDE_A, 0.8)))
    assert count_errors(match([result], 0.5), 0.0) == {MISSED: 0, LOCALISATION: 1, DUPLICATE: 0, BACKGROUND: 0}


def test_the_iou_of_background_ends_at_a_tenth():
    for height, kind in ((1.0, LOCALISATION), (0.9, BACKGROUND)):
        result = ImageResult(1, "p", (A,), (Finding(Box(0, 0, 10, height), 0.9),))
        assert count_errors(match([result], 0.5), 0.0)[kind] == 1


def test_mending_background():
    # precision 1/2 at the only hit becomes 1
    assert gains(ImageResult(1, "p", (A,), (Finding(NOWHERE, 0.9), Finding(A, 0.8)))) == {
        MISSED: 0, LOCALISATION: 0, DUPLICATE: 0, BACKGROUND: pytest.approx(0.5),
    }  # fmt: skip


def test_mending_duplicates():
    # precision 1, then 2/3 for the second lesion (recalls .51 to 1: 50 of 101), becomes 1
    case = ImageResult(1, "p", (A, B), (Finding(A, 0.9), Finding(A, 0.8), Finding(B, 0.7)))
    assert gains(case)[DUPLICATE] == pytest.approx(50 / 101 * (1 - 2 / 3))


def test_mending_places():
    # the higher of two beside A becomes a hit, the lower goes, the one at the found B goes: AP 1
    case = ImageResult(
        1, "p", (A, B), (Finding(BESIDE_A, 0.9), Finding(B, 0.8), Finding(BESIDE_B, 0.7), Finding(BESIDE_A, 0.6))
    )
    before = average_precision(match([case], 0.5))[0]
    assert before == pytest.approx(51 / 101 * 1 / 2)
    assert gains(case)[LOCALISATION] == pytest.approx(1 - before)


def test_mending_misses():
    # half of the lesions are found at precision 1: without the other they are all
    case = ImageResult(1, "p", (A, B), (Finding(A, 0.9),))
    assert gains(case)[MISSED] == pytest.approx(1 - 51 / 101)


def test_without_lesions_nothing_is_gained_or_lost():
    assert all(math.isnan(gain) for gain in gains(ImageResult(1, "p", (), (Finding(A, 0.9),))).values())


def test_tides_own_figures():
    """Figures of tidecv 1.0.1 on this set (thresholds 0.5 and 0.1), its classes all one."""
    rng = np.random.default_rng(1)
    results = []
    for image_id in range(80):
        truth = [Box.from_xywh(*rng.uniform(0, 600, 2), *rng.uniform(30, 200, 2)) for _ in range(rng.integers(0, 4))]
        found = []
        for box in truth:
            for _ in range(rng.integers(0, 4)):
                x, y = box.x0 + rng.uniform(-0.5, 0.5) * box.width, box.y0 + rng.uniform(-0.4, 0.4) * box.height
                size = box.width * rng.uniform(0.7, 1.4), box.height * rng.uniform(0.7, 1.4)
                found.append(Finding(Box.from_xywh(x, y, *size), float(rng.beta(4, 3))))
        for _ in range(rng.integers(0, 6)):
            box = Box.from_xywh(*rng.uniform(0, 600, 2), *rng.uniform(30, 200, 2))
            found.append(Finding(box, float(rng.beta(2, 5))))
        results.append(ImageResult(image_id, str(image_id // 2), tuple(truth), tuple(found)))
    assert average_precision(match(results, 0.5))[0] == pytest.approx(0.0656961609818788, abs=1e-9)
    assert count_errors(match(results, 0.5), 0.0) == {MISSED: 28, LOCALISATION: 122, DUPLICATE: 5, BACKGROUND: 167}
    assert gains(*results) == {
        MISSED: pytest.approx(0.023362010197792688, abs=1e-9),
        LOCALISATION: pytest.approx(0.5203467536813006, abs=1e-9),
        DUPLICATE: pytest.approx(0.0003442433726493199, abs=1e-9),
        BACKGROUND: pytest.approx(0.011371667258435095, abs=1e-9),
    }


def test_metrics_hold_kinds_with_intervals():
    metrics = evaluate([ImageResult(1, "p", (A,), (Finding(NOWHERE, 0.9), Finding(A, 0.3)))], 0.5, "given")
    assert metrics.to_json()["errors"] == {
        "missed": {"count": 1, "dap50": 0.0},
        "localisation": {"count": 0, "dap50": 0.0},
        "duplicate": {"count": 0, "dap50": 0.0},
        "background": {"count": 1, "dap50": pytest.approx(0.5)},
    }
    assert metrics.intervals["dap50_background"] == pytest.approx((0.5, 0.5))
