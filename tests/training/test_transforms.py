"""On 40 rows and 60 columns, with boxes worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscope.training.recipe import AugmentationSection
from mammoscope.training.transforms import augment

ROWS, COLUMNS = 40, 60
STILL = {"horizontal_flip": 0.0}


def changed(boxes: list, seed: int = 0, pixels: np.ndarray | None = None, **section: object):
    given_pixels = np.zeros((ROWS, COLUMNS), np.float32) if pixels is None else pixels
    rng = np.random.default_rng(seed)
    edges = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return augment(given_pixels, edges, AugmentationSection(**STILL | section), rng)


def noise() -> np.ndarray:
    return np.random.default_rng(0).random((ROWS, COLUMNS), dtype=np.float32)


def test_a_section_that_asks_for_nothing_changes_nothing():
    pixels, boxes, kept = changed([[5, 10, 20, 18]], pixels=noise())

    assert np.array_equal(pixels, noise())
    assert boxes.tolist() == [[5, 10, 20, 18]]
    assert kept.tolist() == [True]


def test_a_horizontal_flip_is_exact():
    pixels, boxes, _ = changed([[5, 10, 20, 18]], pixels=noise(), horizontal_flip=1.0)

    assert pixels == pytest.approx(noise()[:, ::-1], abs=1e-5)
    assert boxes == pytest.approx(np.array([[40, 10, 55, 18]]))


def test_a_vertical_flip_is_exact():
    pixels, boxes, _ = changed([[5, 10, 20, 18]], pixels=noise(), vertical_flip=1.0)

    assert pixels == pytest.approx(noise()[::-1], abs=1e-5)
    assert boxes == pytest.approx(np.array([[5, 22, 20, 30]]))


def test_a_zoom_is_about_the_middle():
    _, boxes, _ = changed([[27, 16, 31, 24]], zoom=(2.0, 2.0))

    # The middle is (30, 20): -3..1 by -4..4 about it becomes -6..2 by -8..8.
    assert boxes == pytest.approx(np.array([[24, 12, 32, 28]]))


def test_a_turned_mass_is_boxed_by_its_ellipse():
    for seed in range(20):
        _, boxes, _ = changed([[26, 17, 34, 23]], seed=seed, rotation_degrees=90)
        width, height = boxes[0, 2] - boxes[0, 0], boxes[0, 3] - boxes[0, 1]

        # An ellipse with half axes 4 and 3 about the middle: its box's half sides have squares that sum to 25,
        # whatever the angle, and neither is under 3 or over 4.
        assert (width / 2) ** 2 + (height / 2) ** 2 == pytest.approx(25)
        assert 6 <= width <= 8 + 1e-9
        assert (boxes[0, :2] + boxes[0, 2:]) / 2 == pytest.approx([30, 20])


def test_a_right_angle_by_hand():
    class Quarter:
        """Draws +1 wherever it can: the largest angle, to the left on paper, clockwise on a screen."""

        def uniform(self, low: float, high: float, size: int | None = None):
            return max(low, high) if size is None else np.full(size, high)

        def random(self) -> float:
            return 0.99

    pixels = np.zeros((ROWS, COLUMNS), np.float32)
    pixels[16:18, 34:38] = 1
    turned, boxes, _ = augment(
        pixels, np.array([[34.0, 16, 38, 18]]), AugmentationSection(**STILL, rotation_degrees=90), Quarter()
    )

    # (x, y) from the middle goes to (-y, x): x 4..8, y -4..-2 becomes x 2..4, y 4..8.
    assert boxes == pytest.approx(np.array([[32, 24, 34, 28]]))
    assert turned[24:28, 32:34] == pytest.approx(1, abs=1e-4)
    assert turned.sum() == pytest.approx(8, abs=1e-2)


def test_a_box_mostly_outside_is_dropped_and_one_partly_outside_is_cut():
    # Three times as large, x 20..40 and y 13.3..26.7 of the picture fill it.
    boxes = [[8, 15, 22, 25], [15, 15, 25, 25], [28, 18, 32, 22]]
    _, left, kept = changed(boxes, zoom=(3.0, 3.0))

    # First: x 8..22 becomes -36..6, a seventh stays. Second: x 15..25 becomes -15..15, half stays.
    assert kept.tolist() == [False, True, True]
    assert left == pytest.approx(np.array([[0, 5, 15, 35], [24, 14, 36, 26]]))


def test_a_picture_without_boxes_stays_one():
    _, boxes, kept = changed([], rotation_degrees=20, zoom=(0.8, 1.2), shift=0.1)

    assert boxes.shape == (0, 4)
    assert kept.shape == (0,)


def test_intensities_stay_between_0_and_1_and_change_as_asked():
    half = np.full((ROWS, COLUMNS), 0.5, np.float32)
    for seed in range(10):
        brighter, _, _ = changed([], seed=seed, pixels=half, brightness=0.2)
        assert 0.4 - 1e-6 <= brighter.mean() <= 0.6 + 1e-6
        assert brighter.std() == pytest.approx(0, abs=1e-6)
        contrasted, _, _ = changed([], seed=seed, pixels=noise(), contrast=0.3)
        assert contrasted.mean() == pytest.approx(noise().mean(), abs=0.03)
        gamma, _, _ = changed([], seed=seed, pixels=half, gamma=0.5)
        assert 0.5**1.5 - 1e-6 <= gamma.mean() <= 0.5 ** (1 / 1.5) + 1e-6
        wild, _, _ = changed([], seed=seed, pixels=noise(), gamma=0.9, contrast=0.9, brightness=0.9, noise=0.9, blur=3)
        assert wild.min() >= 0
        assert wild.max() <= 1


def test_saturation_changes_nothing_on_grey():
    pixels, _, _ = changed([], pixels=noise(), saturation=0.9)

    assert np.array_equal(pixels, noise())


def test_the_same_draw_gives_the_same_change():
    section = {"rotation_degrees": 15, "noise": 0.1, "zoom": (0.8, 1.2)}
    one, other, third = (changed([], seed=seed, pixels=noise(), **section)[0] for seed in (7, 7, 8))

    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)


sections = st.builds(
    lambda small, large, **rest: AugmentationSection(zoom=(small, large), **rest),
    st.floats(0.7, 1.0),
    st.floats(1.0, 1.4),
    horizontal_flip=st.floats(0, 1),
    vertical_flip=st.floats(0, 1),
    rotation_degrees=st.floats(0, 180),
    aspect=st.floats(0, 0.4),
    shift=st.floats(0, 0.2),
)


@settings(deadline=None)
@given(sections, st.integers(0, 2**32), st.floats(3, 50), st.floats(3, 30), st.floats(2, 7), st.floats(2, 7))
def test_boxes_stay_inside_and_the_mass_inside_its_box(
    section: AugmentationSection, seed: int, x: float, y: float, half_width: float, half_height: float
):
    box = np.array([[x, y, min(x + 2 * half_width, COLUMNS), min(y + 2 * half_height, ROWS)]])
    rows, columns = np.mgrid[:ROWS, :COLUMNS] + 0.5
    middle, half = (box[0, :2] + box[0, 2:]) / 2, (box[0, 2:] - box[0, :2]) / 2
    blob = ((columns - middle[0]) / half[0]) ** 2 + ((rows - middle[1]) / half[1]) ** 2 <= 1

    pixels, boxes, kept = augment(blob.astype(np.float32), box, section, np.random.default_rng(seed))

    assert len(boxes) == kept.sum()
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= COLUMNS
        assert 0 <= y0 < y1 <= ROWS
        bright_rows, bright_columns = np.nonzero(pixels > 0.5)
        # Pixels are a grid: half a pixel, times the largest scale, on each side.
        assert (bright_columns >= x0 - 1.5).all()
        assert (bright_columns + 1 <= x1 + 1.5).all()
        assert (bright_rows >= y0 - 1.5).all()
        assert (bright_rows + 1 <= y1 + 1.5).all()


def test_a_curve_keeps_black_white_and_order():
    ramp = np.linspace(0, 1, ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
    bent = [changed([], seed=seed, pixels=ramp, curve=0.5)[0].ravel() for seed in range(20)]

    for pixels in bent:
        assert pixels[[0, -1]] == pytest.approx([0, 1], abs=1e-6)
        assert np.all(np.diff(pixels) > 0)
    # Slopes of 1 / 1.5 to 1.5 about their mean: no level moves further than a quarter.
    moved = np.abs(np.array(bent) - ramp.ravel()).max(axis=1)
    assert 0.02 < moved.max() < 0.25


def test_sharpening_steepens_an_edge_and_leaves_what_is_even():
    step = np.where(np.arange(COLUMNS) < 30, 0.4, 0.6).astype(np.float32) * np.ones((ROWS, 1), np.float32)
    sharpened = [changed([], seed=seed, pixels=step, sharpen=1.0)[0] for seed in range(10)]

    for pixels in sharpened:
        assert pixels[:, [5, 55]] == pytest.approx(step[:, [5, 55]], abs=1e-3)
        assert pixels[20, 30] - pixels[20, 29] > 0.2
    # Twice the step at most: what a blur takes away beside an edge is half of it on either side.
    assert max(pixels[20, 30] - pixels[20, 29] for pixels in sharpened) < 0.4
