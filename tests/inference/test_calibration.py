"""The curve by itself; what a detector makes of it is in test_bundle.py."""

import numpy as np
import pytest
from pydantic import ValidationError

from mammoscope.inference import Calibration, log_odds

CURVE = Calibration(slope=2, intercept=np.log(3), rule="a mark hits", fitted_on="val")


def test_by_hand():
    # odds 1 -> 3 * 1^2 = 3; odds 1/3 -> 3 / 9 = 1/3; odds 3 -> 27
    assert CURVE.probability(np.array([0.5, 0.25, 0.75])) == pytest.approx([3 / 4, 1 / 4, 27 / 28])
    assert CURVE.score(np.array([3 / 4, 1 / 4, 27 / 28])) == pytest.approx([0.5, 0.25, 0.75])
    assert log_odds(np.array([0.5, 0.8])) == pytest.approx([0, np.log(4)])


def test_it_rises_everywhere_a_float32_differs():
    scores = np.unique(np.random.default_rng(0).uniform(0.001, 0.9999, 5000).astype(np.float32))
    assert (np.diff(CURVE.probability(scores)) > 0).all()


def test_any_shape_and_none_at_all():
    assert CURVE.probability(np.empty((0,), np.float32)).shape == (0,)
    assert CURVE.probability(np.full((2, 3), 0.5)).shape == (2, 3)


@pytest.mark.parametrize("change", [{"slope": 0}, {"slope": -1}, {"slope": float("inf")}, {"intercept": float("nan")}])
def test_a_curve_that_does_not_rise_or_is_no_number_is_refused(change):
    with pytest.raises(ValidationError):
        Calibration(**(CURVE.model_dump() | change))
