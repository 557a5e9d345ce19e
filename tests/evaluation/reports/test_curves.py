import numpy as np
import pytest

from mammoscope.evaluation import ImageResult, draw_froc, draw_precision_recall, match
from mammoscope.findings import Box, Finding

A, NOWHERE = Box(0, 0, 10, 10), Box(100, 100, 110, 110)


def blue(picture: np.ndarray) -> np.ndarray:
    return (picture[..., 2].astype(int) - picture[..., 0]) > 100


@pytest.mark.parametrize("draw", [draw_precision_recall, draw_froc])
def test_a_better_detector_has_a_higher_curve(draw):
    good = match([ImageResult(1, "p", (A,), (Finding(A, 0.9),))], 0.5)
    poor = match([ImageResult(1, "p", (A,), (Finding(NOWHERE, 0.9), Finding(NOWHERE, 0.8), Finding(A, 0.7)))], 0.5)
    height = [np.nonzero(blue(draw(case)))[0].mean() for case in (good, poor)]
    assert height[0] < height[1]


@pytest.mark.parametrize("draw", [draw_precision_recall, draw_froc])
def test_nothing_found_draws_an_empty_plot(draw):
    picture = draw(match([ImageResult(1, "p", (A,), ())], 0.5))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.min() < 100
