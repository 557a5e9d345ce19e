"""Pictures of 400 x 300 pixels with a half ellipse for a breast at the left edge."""

import cv2
import numpy as np
import pytest

from mammoscope.imaging import WHITE, find_breast_region

FOG = 1500
TISSUE = 30000


def film(width: int = 150, height: int = 280) -> np.ndarray:
    """A breast ``width`` wide and ``height`` high about the middle row."""
    pixels = np.full((400, 300), FOG, np.uint16)
    y, x = np.mgrid[:400, :300] + 0.5
    pixels[(x / width) ** 2 + ((y - 200) / (height / 2)) ** 2 < 1] = TISSUE
    return pixels


def test_the_region_is_the_breast_and_its_margin():
    region = find_breast_region(film())

    # The half ellipse spans x 0..150, y 60..340; the margin is 2.5 % of each side, 7.5 and 10 pixels.
    assert region.x0 == 0
    assert region.x1 == pytest.approx(157.5, abs=5)
    assert region.y0 == pytest.approx(50, abs=5)
    assert region.y1 == pytest.approx(350, abs=5)


def test_the_mask_covers_the_breast_and_nothing_else():
    region = find_breast_region(film())
    truth = cv2.resize((film() == TISSUE).astype(np.float32), (160, 256), interpolation=cv2.INTER_AREA) > 0.5

    assert region.mask.shape == (256, 160)
    assert (region.mask & truth).sum() / (region.mask | truth).sum() > 0.95


def test_labels_and_film_edges_are_left_out():
    pixels = film()
    pixels[20:50, 225:280] = 60000  # a lead label
    pixels[:, 294:] = WHITE  # unexposed film at the right and along the bottom
    pixels[392:, :] = WHITE
    plain, dirty = find_breast_region(film()), find_breast_region(pixels)

    assert not dirty.mask[: 50 * 256 // 400, 225 * 160 // 300 :].any()
    assert not dirty.mask[:, 294 * 160 // 300 :].any()
    for edge in ("x0", "y0", "x1", "y1"):
        assert getattr(dirty, edge) == pytest.approx(getattr(plain, edge), abs=4), edge


def test_a_label_that_touches_the_breast_by_a_thin_line_is_cut_off():
    pixels = film()
    pixels[190:230, 200:270] = 60000
    pixels[208:212, 140:210] = 60000

    assert find_breast_region(pixels).x1 < 190


def test_a_breast_at_the_right_is_the_mirror_image():
    left, right = find_breast_region(film()), find_breast_region(np.ascontiguousarray(film()[:, ::-1]))

    assert right.x1 == 300
    assert right.x0 == pytest.approx(300 - left.x1, abs=3)
    assert (right.y0, right.y1) == (left.y0, left.y1)


@pytest.mark.parametrize("level", [0, FOG, WHITE])
def test_without_a_breast_the_region_is_the_whole_image(level: int):
    region = find_breast_region(np.full((400, 300), level, np.uint16))

    assert (region.x0, region.y0, region.x1, region.y1) == (0, 0, 300, 400)
    assert region.mask.all()


def test_a_speck_is_no_breast():
    pixels = np.full((400, 300), FOG, np.uint16)
    pixels[180:220, 140:180] = TISSUE  # 1.3 % of the image

    region = find_breast_region(pixels)

    assert (region.x0, region.y0, region.x1, region.y1) == (0, 0, 300, 400)


def test_a_stretched_image_has_the_same_region():
    region = find_breast_region(film())
    stretched = find_breast_region(cv2.resize(film(), (500, 500), interpolation=cv2.INTER_LINEAR))

    assert stretched.x1 / 500 == pytest.approx(region.x1 / 300, abs=0.01)
    assert stretched.y0 / 500 == pytest.approx(region.y0 / 400, abs=0.01)
    assert stretched.y1 / 500 == pytest.approx(region.y1 / 400, abs=0.01)
