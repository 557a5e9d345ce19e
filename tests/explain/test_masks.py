import numpy as np
import pytest

from mammoscope.explain.drise import random_masks, smooth_tissue


def test_masks_are_smooth_seeded_and_show_as_much_as_asked():
    shape = (96, 64)
    masks = np.stack(list(random_masks(shape, count=300, cells=6, keep=0.3, seed=4)))
    again = np.stack(list(random_masks(shape, count=300, cells=6, keep=0.3, seed=4)))
    other = np.stack(list(random_masks(shape, count=300, cells=6, keep=0.3, seed=5)))

    assert masks.shape == (300, *shape)
    assert (masks == again).all()
    assert not (masks == other).all()
    assert masks.min() == 0
    assert masks.max() == 1
    assert masks.mean() == pytest.approx(0.3, abs=0.02)
    # Every place is shown now and then: the grid is shifted, its borders are not favoured.
    assert masks.mean(axis=0).min() > 0.15
    # From one cell (16 pixels) to the next the value changes by at most 1, evenly.
    assert np.abs(np.diff(masks, axis=1)).max() <= 1 / 16 + 1e-6


def test_masks_of_an_input_that_no_whole_number_of_cells_fits():
    for mask in random_masks((100, 33), count=20, cells=7, keep=0.5, seed=0):
        assert mask.shape == (100, 33)


def test_what_fills_hidden_parts_is_the_same_breast_without_the_mass():
    y, x = np.mgrid[:200, :120]
    breast = (x / 100) ** 2 + ((y - 100) / 80) ** 2 < 1
    mass = np.hypot(x - 40, y - 100) < 6
    pixels = np.where(mass, 0.9, np.where(breast, 0.5, 0.0)).astype(np.float32)

    filling = smooth_tissue(pixels)

    assert filling.dtype == np.float32
    assert (filling[~breast] == 0).all()
    assert filling[100, 40] < 0.6  # of a contrast of 0.4, less than a quarter is left
    # The dark background does not darken the skin.
    assert filling[100, 96] == pytest.approx(0.5, abs=0.02)


def test_a_picture_without_tissue_stays_as_it_is():
    empty = np.zeros((64, 64), np.float32)

    assert (smooth_tissue(empty) == empty).all()
