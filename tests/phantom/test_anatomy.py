import math

import numpy as np
import pytest

from mammoscope.imaging import View
from mammoscope.phantom.anatomy import FIELD_HEIGHT_MM, FIELD_WIDTH_MM, Anatomy, Breast, Margin, Silhouette

PLAIN = Breast(
    depth=100,
    half_height=80,
    fullness=2,
    axilla=60,
    nipple_drop=130,
    pectoral_width=40,
    pectoral_length=100,
    density=0.3,
)


def draw(seed, masses=0):
    return Anatomy.draw(np.random.default_rng(seed), masses)


def test_cc_outline_is_the_ellipse_it_says():
    v = np.array([40.0, 120.0, 120 + 80 * math.sqrt(0.75), 200.0, 230.0])
    np.testing.assert_allclose(PLAIN.skin(View.CC, v), [0, 100, 50, 0, 0], atol=1e-5)


def test_mlo_outline_goes_from_the_axilla_over_the_nipple_to_the_fold():
    v = np.array([0.0, 130.0, 130 + 0.95 * 80, 239.0])
    np.testing.assert_allclose(PLAIN.skin(View.MLO, v), [60, 100, 0, 0], atol=1e-5)


def test_pectoral_edge_meets_top_and_chest_wall_where_it_says():
    np.testing.assert_allclose(PLAIN.pectoral_edge(np.array([0.0, 100.0, 150.0])), [40, 0, 0], atol=1e-9)
    assert PLAIN.pectoral_edge(np.array([50.0]))[0] == pytest.approx(40 * (0.5 + 0.08))


@pytest.mark.parametrize(
    ("view", "u", "v", "inside"),
    [
        (View.CC, 50.0, 120.0, True),
        (View.CC, 101.0, 120.0, False),
        (View.CC, -1.0, 120.0, False),
        (View.MLO, 20.0, 10.0, False),  # on the muscle
        (View.MLO, 50.0, 10.0, True),
        (View.MLO, 20.0, 130.0, True),
    ],
)
def test_what_the_breast_holds(view, u, v, inside):
    assert PLAIN.holds(view, np.array([u]), np.array([v])) is inside


def test_extent_of_a_round_mass():
    extent = Silhouette(u=50, v=70, radius=8, waves=(), spicules=((0.0, 20.0, 0.0),)).extent()
    assert extent == pytest.approx((42, 62, 58, 78), abs=1e-3)


def test_extent_of_an_oval_mass():
    # r = 10 (1 + 0.2 cos 2a): 12 along u, 8 along v.
    extent = Silhouette(u=0, v=0, radius=10, waves=((0.2, 2, 0.0),), spicules=()).extent()
    assert extent == pytest.approx((-12, -8, 12, 8), abs=0.02)


@pytest.mark.parametrize("seed", range(30))
def test_anatomy_fits_the_field(seed):
    anatomy = draw(seed)
    v = np.linspace(0, FIELD_HEIGHT_MM, 500)
    for breast in (anatomy.right, anatomy.left):
        for view in (View.CC, View.MLO):
            skin = breast.skin(view, v)
            # The nipple and the marker need room in front.
            assert 80 < skin.max() < FIELD_WIDTH_MM - 40
            assert skin[-1] == 0
        assert breast.skin(View.CC, v)[0] == 0


@pytest.mark.parametrize("masses", range(7))
def test_masses_are_shared_out(masses):
    anatomy = draw(11, masses)
    counts = len(anatomy.right.masses), len(anatomy.left.masses)
    assert sum(counts) == masses
    assert abs(counts[0] - counts[1]) <= 1


def test_either_breast_can_have_the_only_mass():
    assert {len(draw(seed, 1).right.masses) for seed in range(20)} == {0, 1}


def test_both_margins_occur_and_only_spiculated_masses_have_spicules():
    masses = [mass for seed in range(10) for mass in (*draw(seed, 2).right.masses, *draw(seed, 2).left.masses)]
    assert {mass.margin for mass in masses} == {Margin.LOBULATED, Margin.SPICULATED}
    for mass in masses:
        assert bool(mass.cc.spicules) == bool(mass.mlo.spicules) == (mass.margin is Margin.SPICULATED)


@pytest.mark.parametrize("seed", range(25))
def test_a_mass_is_at_the_same_nipple_distance_in_both_views(seed):
    anatomy = draw(seed, 6)
    for breast in (anatomy.right, anatomy.left):
        for mass in breast.masses:
            for view in (View.CC, View.MLO):
                seen = mass.silhouette(view)
                u, v = breast.nipple(view)
                assert math.hypot(seen.u - u, seen.v - v) == pytest.approx(mass.nipple_distance)
            assert mass.cc.radius == mass.mlo.radius


@pytest.mark.parametrize("seed", range(25))
def test_masses_lie_in_the_breast_off_the_muscle_and_apart(seed):
    anatomy = draw(seed, 6)
    angle = np.linspace(0, 2 * np.pi, 90)
    for breast in (anatomy.right, anatomy.left):
        for view in (View.CC, View.MLO):
            seen = [mass.silhouette(view) for mass in breast.masses]
            for index, mass in enumerate(seen):
                radius = mass.outline_radius(angle)
                assert breast.holds(view, mass.u + radius * np.cos(angle), mass.v + radius * np.sin(angle))
                for other in seen[:index]:
                    assert math.hypot(mass.u - other.u, mass.v - other.v) > mass.radius + other.radius


def test_mass_sizes_are_those_of_screening():
    for seed in range(10):
        for mass in draw(seed, 2).left.masses:
            u0, v0, u1, v1 = mass.cc.extent()
            assert 9 < u1 - u0 < 29
            assert 9 < v1 - v0 < 29


def test_the_same_seed_draws_the_same_woman():
    assert draw(3, 2) == draw(3, 2)
    assert draw(3, 2) != draw(4, 2)
