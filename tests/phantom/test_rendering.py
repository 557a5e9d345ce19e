from itertools import pairwise

import numpy as np
import pytest

from mammoscope.imaging import Laterality, View
from mammoscope.phantom import screening_study
from mammoscope.phantom.anatomy import Anatomy, Breast, Margin, Mass, Silhouette
from mammoscope.phantom.rendering import FULL_SCALE, Field, breast_picture, truth_boxes

FIELD = Field.of_size(480, 360)
"""Half a millimetre a pixel."""


def breast(masses=()):
    return Breast(
        depth=100,
        half_height=80,
        fullness=2,
        axilla=65,
        nipple_drop=130,
        pectoral_width=42,
        pectoral_length=100,
        density=0.3,
        masses=masses,
    )


def picture(laterality, view, seed=0, masses=()):
    return breast_picture(np.random.default_rng(seed), breast(masses), laterality, view, FIELD)


@pytest.mark.parametrize(
    ("rows", "columns", "spacing"),
    [(480, 360, 0.5), (2400, 1800, 0.1), (480, 1000, 0.5), (1000, 360, 0.5), (1536, 1152, 0.1563)],
)
def test_spacing_makes_the_anatomy_fit(rows, columns, spacing):
    assert Field.of_size(rows, columns).spacing == pytest.approx(spacing)


def test_truth_box_in_pixels_by_hand():
    seen = Silhouette(u=40, v=110, radius=10, waves=(), spicules=())
    mass = Mass(Margin.LOBULATED, 60.8, 0.25, seen, seen)
    (left,) = truth_boxes(breast((mass,)), Laterality.LEFT, View.CC, FIELD)
    assert left.as_tuple() == pytest.approx((60, 200, 100, 240), abs=0.01)
    (right,) = truth_boxes(breast((mass,)), Laterality.RIGHT, View.CC, FIELD)
    assert right.as_tuple() == pytest.approx((260, 200, 300, 240), abs=0.01)


@pytest.mark.parametrize("view", [View.CC, View.MLO])
def test_chest_wall_is_left_for_a_left_breast_and_right_for_a_right_one(view):
    left, right = picture(Laterality.LEFT, view), picture(Laterality.RIGHT, view)
    level = 260 if view is View.MLO else 240
    assert left[level, 0] > 0 == left[level, -1]
    assert right[level, -1] > 0 == right[level, 0]


def test_the_two_sides_are_mirror_images_but_for_the_marker():
    left, right = picture(Laterality.LEFT, View.CC)[60:], picture(Laterality.RIGHT, View.CC)[60:]
    np.testing.assert_array_equal(left, right[:, ::-1])


@pytest.mark.parametrize("view", [View.CC, View.MLO])
def test_air_is_black_and_no_pixel_of_the_breast_is(view):
    pixels = picture(Laterality.LEFT, view)
    skin = breast().skin(view, (np.arange(480) + 0.5) * 0.5) / 0.5
    column = np.arange(360)
    well_inside = column[None, :] < skin[:, None] - 6
    assert pixels[well_inside].min() > 0
    air = column[None, :] > skin[:, None] + 30
    air[:60] = False  # the marker
    assert pixels[air].max() == 0


def test_the_rim_fades_towards_the_skin():
    pixels = picture(Laterality.LEFT, View.CC)
    # Inner lower part of the breast, mostly fat: from the skin inwards, along rows of 0.5 mm pixels.
    rows = np.arange(330, 370)
    skin = np.round(breast().skin(View.CC, (rows + 0.5) * 0.5) / 0.5).astype(int)

    def at_depth(first, last):
        return np.mean([pixels[row, edge - last : edge - first].mean() for row, edge in zip(rows, skin, strict=True)])

    assert at_depth(6, 12) < 0.7 * at_depth(50, 60)
    assert at_depth(20, 26) < at_depth(50, 60)


def test_the_pectoral_muscle_is_brighter_than_the_breast_and_only_in_the_mlo_view():
    mlo, cc = picture(Laterality.LEFT, View.MLO), picture(Laterality.LEFT, View.CC)
    muscle = mlo[4:40, 4:40].mean()
    assert muscle > 1.3 * mlo[20:40, 100:115].mean()
    # 55 mm down and up to 15 mm from the chest wall: muscle in the MLO view, breast in the CC view.
    assert 0 < cc[105:115, 4:30].mean() < 0.75 * mlo[105:115, 4:30].mean()


def test_marker_is_burned_in_outside_the_breast():
    for laterality in Laterality:
        pixels = picture(laterality, View.MLO)
        corner = pixels[10:40, :120] if laterality is Laterality.RIGHT else pixels[10:40, -120:]
        assert corner.max() > 0.8 * FULL_SCALE
        assert np.median(corner) == 0
        # Black columns part it from the skin.
        between = pixels[10:40, 125:210] if laterality is Laterality.RIGHT else pixels[10:40, 150:235]
        assert between.max() == 0


def test_a_study_uses_the_grey_scale_without_clipping_the_breast(small_study):
    for image in small_study.images:
        pixels = image.dataset.pixel_array
        assert pixels.dtype == np.uint16
        assert FULL_SCALE * 0.5 < pixels.max() <= FULL_SCALE
        assert (pixels == FULL_SCALE).mean() < 0.001


def test_parenchyma_keeps_a_power_law_spectrum_close_to_3():
    """A window of 40 mm amid a normal breast, from 0.1 to 0.8 periods per mm."""
    slopes = []
    for seed in range(4):
        r_cc = screening_study(seed, masses=0, rows=1536, columns=1152).images[0]
        pixels = r_cc.dataset.pixel_array[640:896, 700:956].astype(float)
        taper = np.hanning(256)[:, None] * np.hanning(256)
        power = np.abs(np.fft.fft2((pixels - pixels.mean()) * taper)) ** 2
        frequency = np.hypot(np.fft.fftfreq(256, 0.1563)[:, None], np.fft.fftfreq(256, 0.1563)[None, :])
        edges = np.geomspace(0.1, 0.8, 7)
        means = [power[(frequency >= a) & (frequency < b)].mean() for a, b in pairwise(edges)]
        slopes.append(np.polyfit(np.log(np.sqrt(edges[:-1] * edges[1:])), np.log(means), 1)[0])
    assert np.mean(slopes) == pytest.approx(-3, abs=0.5)


@pytest.mark.parametrize("seed", range(8))
def test_masses_are_brighter_than_what_surrounds_them(seed):
    for image in screening_study(seed, masses=4, rows=400, columns=300).images:
        pixels = image.dataset.pixel_array.astype(float)
        for box in image.truth:
            x, y = box.center
            yy, xx = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
            distance = np.hypot((xx + 0.5 - x) / box.width, (yy + 0.5 - y) / box.height)
            inside = pixels[distance < 0.25].mean()
            around = pixels[(distance > 0.55) & (distance < 0.8)].mean()
            assert inside > around + 0.1 * FULL_SCALE


def test_a_mass_brightens_its_box_and_spicules_reach_out_of_it():
    seen = Silhouette(u=40, v=110, radius=8, waves=(), spicules=tuple((a, 10.0, 0.0) for a in (0.0, 1.5, 3.0, 4.5)))
    mass = Mass(Margin.SPICULATED, 60.8, 0.25, seen, seen)
    # The same draw of tissue up to the masses; the noise after them differs by little.
    change = picture(Laterality.LEFT, View.CC, masses=(mass,)).astype(int) - picture(Laterality.LEFT, View.CC)
    assert change[212:228, 72:88].mean() > 0.15 * FULL_SCALE
    # The spicule in direction 0 leaves the outline (u = 48 mm) to the right; row 220, columns 98 to 104.
    assert change[219:222, 98:104].mean() > 3 * abs(change[232:240, 98:104].mean())


def test_a_real_anatomy_draws_every_view_at_the_smallest_size():
    anatomy = Anatomy.draw(np.random.default_rng(1), 6)
    field = Field.of_size(128, 96)
    for view in (View.CC, View.MLO):
        assert breast_picture(np.random.default_rng(1), anatomy.left, Laterality.LEFT, view, field).shape == (128, 96)
