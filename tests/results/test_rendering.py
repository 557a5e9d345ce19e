"""The overlay picture of one mammogram."""

import numpy as np
import pytest

from mammoscope.findings import Box, Reading
from mammoscope.imaging import Mammogram
from mammoscope.results import draw_reading
from mammoscope.results.rendering import fitted, font, wrapped

YELLOW, GREEN = (255, 214, 0), (64, 220, 96)


def where(picture, colour):
    rows, columns = np.nonzero((picture == colour).all(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def black(rows=400, columns=300):
    return Mammogram(np.zeros((rows, columns), np.uint16), "black")


def test_truth_is_green_and_where_it_is(make_image):
    picture = draw_reading(black(), make_image().reading, truth=[Box(30, 40, 90, 100)])
    assert picture.shape == (400, 300, 3)
    assert picture.dtype == np.uint8
    assert where(picture, GREEN) == (30, 40, 90, 100)
    assert not (picture == YELLOW).all(axis=2).any()


def test_a_picture_is_reduced_and_the_box_with_it(make_image):
    picture = draw_reading(black(), make_image().reading, truth=[Box(30, 40, 90, 100)], max_side=200)
    assert picture.shape == (200, 150, 3)
    assert where(picture, GREEN) == (15, 20, 45, 50)
    assert draw_reading(black(), make_image().reading, max_side=None).shape == (400, 300, 3)


def test_predictions_are_yellow_with_their_score_above(make_image):
    found = make_image(findings=[((100, 200, 160, 260), 0.9)]).reading
    picture = draw_reading(black(), found)
    left, top, _, bottom = where(picture, YELLOW)
    assert (left, top, bottom) == (100, 200, 260)
    lit = np.flatnonzero(picture[:200].any(axis=(1, 2)))
    assert 180 < lit.min() < lit.max() < 198  # the label stands above the box
    assert (picture[..., 2] <= picture[..., 0]).all()  # nothing but black and shades of yellow


def test_sixteen_bits_come_out_as_eight(make_image):
    pixels = np.full((40, 30), 65535, np.uint16)
    pixels[0, 0] = 128 << 8
    picture = draw_reading(Mammogram(pixels, "x"), make_image().reading)
    assert tuple(picture[0, 0]) == (128, 128, 128)
    assert tuple(picture[20, 20]) == (255, 255, 255)


def test_what_was_not_processed_says_so():
    picture = draw_reading(black(), Reading.not_processed("x", "The pixels could not be decoded."))
    assert picture.any()


@pytest.mark.parametrize("box", [Box(-10, -10, 5, 5), Box(295, 395, 400, 500), Box(500, 500, 600, 600)])
def test_a_box_at_or_beyond_the_edge(make_image, box):
    found = make_image(findings=[(box.as_tuple(), 0.9)]).reading
    assert draw_reading(black(), found, truth=[box]).shape == (400, 300, 3)


def test_text_is_wrapped_and_cut_to_its_width():
    face = font(20)
    lines = wrapped("one two three four five six", face, 100)
    assert " ".join(lines) == "one two three four five six"
    assert all(face.getlength(line) <= 100 for line in lines)
    assert fitted("a" * 100, face, 100).endswith("...")
    assert face.getlength(fitted("a" * 100, face, 100)) <= 100
