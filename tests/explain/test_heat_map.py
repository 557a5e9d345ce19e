import numpy as np

from mammoscope.explain import HeatMap
from mammoscope.imaging import Placement


def heat_map(values, placement, agreement=None):
    return HeatMap(np.asarray(values, np.float32), placement, "by hand", "share", agreement)


def test_on_the_file_it_lies_where_the_network_looked():
    on_file = heat_map(np.full((4, 3), 0.5), Placement(10, 20, 2, 3)).on_file(50, 40)

    assert on_file.shape == (50, 40)
    assert (on_file[20:32, 10:16] == 0.5).all()
    on_file[20:32, 10:16] = 0
    assert (on_file == 0).all()


def test_a_peak_stays_in_its_place_when_enlarged():
    values = np.zeros((8, 8))
    values[5, 2] = 1.0

    on_file = heat_map(values, Placement(0, 0, 10, 5)).on_file(40, 80)

    # The pixel covers rows 25 to 30 and columns 20 to 30.
    y, x = np.unravel_index(on_file.argmax(), on_file.shape)
    assert 25 <= y < 30
    assert 20 <= x < 30


def test_a_map_that_speaks_only_against_has_no_peak():
    assert heat_map([[-0.2, -0.1]], Placement(0, 0, 1, 1)).peak == 0


def test_noisy_is_what_agrees_too_little_with_its_like():
    place = Placement(0, 0, 1, 1)

    assert heat_map([[1.0]], place, agreement=0.69).noisy
    assert not heat_map([[1.0]], place, agreement=0.71).noisy
    assert not heat_map([[1.0]], place).noisy
