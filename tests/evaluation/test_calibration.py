import math

import numpy as np
import pytest

from mammoscope.evaluation import ImageResult, calibration_error, evaluate, match, reliability
from mammoscope.findings import Box, Finding

A, NOWHERE = Box(0, 0, 10, 10), Box(100, 100, 110, 110)


def results():
    """Scores 0.85 (hit) and 0.81 (none) in one bin, 0.25 (none) in another, 1.0 (hit) in the last."""
    return [
        ImageResult(1, "p", (A,), (Finding(A, 0.85), Finding(NOWHERE, 0.81), Finding(NOWHERE, 0.25))),
        ImageResult(2, "q", (A,), (Finding(A, 1.0),)),
    ]


def test_bins():
    bins = reliability(match(results(), 0.5))
    assert [(b.low, b.n) for b in bins if b.n] == [(0.2, 1), (0.8, 2), (0.9, 1)]
    assert bins[8].mean_score == pytest.approx(0.83)
    assert bins[8].share_of_hits == 0.5
    assert bins[9].share_of_hits == 1
    assert bins[0].mean_score is bins[0].share_of_hits is None
    assert [b.high for b in bins] == pytest.approx([n / 10 for n in range(1, 11)])


def test_expected_error():
    # two of four are 0.33 too sure, one is 0.25 too sure, one is right
    assert calibration_error(match(results(), 0.5))[0] == pytest.approx((2 * 0.33 + 0.25) / 4)


def test_weighted_as_if_the_patient_were_there_twice():
    twice = [*results(), ImageResult(3, "p2", *(getattr(results()[0], name) for name in ("truth", "candidates")))]
    weighted = calibration_error(match(results(), 0.5), np.array([[2.0, 1.0], [0.0, 1.0]]))
    assert weighted == pytest.approx([calibration_error(match(twice, 0.5))[0], 0.0])


def test_scores_that_are_probabilities_are_calibrated():
    rng = np.random.default_rng(4)
    scores = rng.uniform(size=4000)
    hits = rng.uniform(size=4000) < scores
    many = [
        ImageResult(n, str(n), (A,), (Finding(A if hit else NOWHERE, float(score)),))
        for n, (score, hit) in enumerate(zip(scores, hits, strict=True))
    ]
    assert calibration_error(match(many, 0.5))[0] < 0.03


def test_without_candidates_it_is_undefined():
    metrics = evaluate([ImageResult(1, "p", (A,), ())], 0.5, "given")
    assert metrics.calibration_error is None
    assert math.isnan(calibration_error(match([ImageResult(1, "p", (A,), ())], 0.5))[0])
    assert metrics.to_json()["reliability"][3] == {
        "low": 0.3, "high": 0.4, "n": 0, "mean_score": None, "share_of_hits": None,
    }  # fmt: skip
