"""Masses pasted into pictures where every pixel is known."""

import numpy as np
import pytest
import torch

from mammoscope.training.transforms import Donor
from mammoscope.training.transforms import paste_mass as place_mass

TISSUE, MASS = 0.3, 0.8
NO_BOXES = np.zeros((0, 4))


def breast(level: float = TISSUE) -> np.ndarray:
    return np.full((120, 100), level, np.float32)


def paste_mass(pixels: np.ndarray, boxes: np.ndarray, mass: Donor, rng: np.random.Generator):
    """The whole picture with the mass, and its box."""
    pasted = place_mass(pixels, boxes, mass, rng)
    if pasted is None:
        return None
    picture = torch.from_numpy(pixels.copy())
    pasted.onto(picture)
    return picture.numpy(), pasted.box


def donor(tissue: float = 0.2) -> Donor:
    """A round mass of radius 10 on even tissue."""
    y, x = np.mgrid[0:80, 0:80]
    pixels = np.where(np.hypot(x - 39.5, y - 39.5) < 10, tissue + 0.5, tissue).astype(np.float32)
    return Donor(pixels, np.array([30.0, 30, 50, 50]))


@pytest.mark.parametrize("seed", range(10))
def test_a_mass_appears_where_its_box_says(seed: int):
    pixels, box = paste_mass(breast(), NO_BOXES, donor(), np.random.default_rng(seed))

    middle = ((box[:2] + box[2:]) / 2).astype(int)
    # The donor's mass stands 0.5 above its tissue, and so it does here, whatever the levels.
    assert pixels[middle[1], middle[0]] == pytest.approx(MASS, abs=0.01)
    y, x = np.nonzero(pixels > TISSUE + 0.25)
    assert box == pytest.approx([x.min(), y.min(), x.max() + 1, y.max() + 1], abs=1.6)
    assert 16 <= box[2] - box[0] <= 24.5
    changed = np.argwhere(np.abs(pixels - TISSUE) > 1e-3)
    assert np.all(changed >= box[1::-1] - 0.3 * 20)
    assert np.all(changed <= box[:1:-1] + 0.3 * 20)


def test_the_picture_given_stays_as_it_was():
    before = breast()
    paste_mass(before, NO_BOXES, donor(), np.random.default_rng(0))

    assert np.array_equal(before, breast())


def test_the_same_draw_gives_the_same_picture():
    one, other = (paste_mass(breast(), NO_BOXES, donor(), np.random.default_rng(5)) for _ in range(2))

    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


def test_no_mass_on_top_of_another():
    there = np.array([[0.0, 0, 100, 60]])
    for seed in range(30):
        pasted = paste_mass(breast(), there, donor(), np.random.default_rng(seed))
        assert pasted is None or pasted[1][1] >= 60


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_no_mass_in_air_or_on_the_film_s_edge(level: float):
    assert paste_mass(breast(level), NO_BOXES, donor(), np.random.default_rng(0)) is None


def test_no_mass_that_lay_half_in_air():
    assert paste_mass(breast(), NO_BOXES, donor(tissue=0.0), np.random.default_rng(0)) is None


def test_a_mass_larger_than_the_picture_is_left_out():
    assert paste_mass(breast()[:20], NO_BOXES, donor(), np.random.default_rng(0)) is None
