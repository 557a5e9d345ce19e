import numpy as np
import pytest

from mammoscope.explain import Faithfulness, faithfulness

PIXELS = np.random.default_rng(0).uniform(0.3, 0.7, (50, 50)).astype(np.float32)
BOX = np.zeros((50, 50), bool)
BOX[10:30, 20:40] = True  # 16 % of the pixels
PIXELS[BOX] = 1.0


def share_of_the_box_shown(pixels):
    """White pixels are shown ones: what fills the box is darker."""
    return np.array([(pixels[BOX] == 1.0).mean()])


def test_the_map_of_what_counts():
    measured = faithfulness(BOX.astype(np.float32), PIXELS, share_of_the_box_shown)

    # Down from 1 to 0 in a straight line over the first 16 %, and up the same way.
    assert measured.deletion == pytest.approx(0.16 / 2, abs=1e-3)
    assert measured.insertion == pytest.approx(1 - 0.16 / 2, abs=1e-3)


def test_the_map_of_everything_else():
    measured = faithfulness(-BOX.astype(np.float32), PIXELS, share_of_the_box_shown)

    # Nothing changes up to 81 %, the last step but one.
    assert measured.deletion == pytest.approx(0.81 + 0.19 / 2, abs=1e-3)
    assert measured.insertion == pytest.approx(0.19 / 2, abs=1e-3)


def test_equal_values_go_in_random_order():
    measured = faithfulness(np.zeros((50, 50)), PIXELS, share_of_the_box_shown)

    assert measured.deletion == pytest.approx(0.5, abs=0.03)
    assert measured.insertion == pytest.approx(0.5, abs=0.03)


def test_a_finding_that_is_not_there_has_nothing_to_lose():
    assert faithfulness(BOX.astype(np.float32), PIXELS, lambda _: np.zeros(1)) == Faithfulness(0.0, 0.0)
