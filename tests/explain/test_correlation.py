import numpy as np
import pytest

from mammoscope.explain import correlation, rank_correlation


def test_correlation_by_hand():
    one, other = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 1.0], [4.0, 3.0]])

    # Deviations -1.5 -0.5 0.5 1.5 and -0.5 -1.5 1.5 0.5: 3 over 5.
    assert correlation(one, other) == pytest.approx(0.6)
    assert correlation(one, -2 * one + 7) == pytest.approx(-1)


def test_ranks_know_only_the_order_and_share_ties():
    one = np.array([1.0, 10.0, 100.0, 1000.0])

    assert rank_correlation(one, np.log(one)) == pytest.approx(1)
    # Ranks 1 2.5 2.5 4 against 1 2 3 4: 4.5 over the root of 4.5 times 5.
    assert rank_correlation(np.array([0.0, 5.0, 5.0, 9.0]), one) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_a_map_of_one_value_agrees_with_nothing():
    flat = np.full((3, 3), 0.4)

    assert correlation(flat, np.arange(9.0).reshape(3, 3)) == 0
    assert rank_correlation(flat, flat) == 0
