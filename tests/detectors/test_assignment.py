"""ATSS on anchors few enough to work out by hand."""

import pytest
import torch

from mammoscope.detectors.losses import Truth, assign_by_atss


def atss_assignment(
    truth: torch.Tensor, anchors: torch.Tensor, levels: list[int], per_position: int, nearest: int
) -> torch.Tensor:
    """Per anchor of one image the index of the box it learns, or -1."""
    targets = [{"boxes": truth, "labels": torch.zeros(len(truth), dtype=torch.int64)}]
    found = assign_by_atss(Truth.from_targets(targets), anchors, levels, per_position, nearest)
    return torch.where(found.positive, found.box, -1)[0]


def squares(centres: list[tuple[float, float]], side: float) -> torch.Tensor:
    return torch.tensor([[x - side / 2, y - side / 2, x + side / 2, y + side / 2] for x, y in centres])


def row(side: float, step: float, count: int) -> torch.Tensor:
    """Anchors of one level, their centres on a line from x = 0."""
    return squares([(step * number, 0.0) for number in range(count)], side)


def test_the_overlaps_of_a_mass_set_its_own_threshold():
    mass = squares([(20.0, 0.0)], 10)
    # Centres at 0, 10, ... 40 and sides of 10: with 3 candidates the overlaps are 1, 0, 0,
    # their mean 1/3 and standard deviation 0.577: the threshold 0.911 admits the first alone.
    anchors = row(10, 10, 5)

    assert atss_assignment(mass, anchors, [5], 1, 3).tolist() == [-1, -1, 0, -1, -1]


def test_each_level_gives_its_nearest_anchors():
    mass = squares([(4.0, 0.0)], 8)
    fine, coarse = row(8, 2, 5), row(40, 8, 2)
    # Fine candidates at 2, 4, 6: overlaps 0.6, 1, 0.6 (6 x 8 over 10 x 8); coarse ones 64 / 1600 = 0.04.
    # Mean 0.456, standard deviation 0.413 of (0.6, 1, 0.6, 0.04, 0.04): threshold 0.869.
    assigned = atss_assignment(mass, torch.cat([fine, coarse]), [5, 2], 1, 3)

    assert assigned.tolist() == [-1, -1, 0, -1, -1, -1, -1]


def test_an_anchor_whose_centre_lies_outside_learns_nothing():
    # The only anchors near overlap the mass, but their middles do not lie in it.
    mass = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    anchors = torch.tensor([[3.0, 0.0, 7.0, 4.0], [3.0, 1.0, 7.0, 5.0], [30.0, 30.0, 34.0, 34.0]])

    assert atss_assignment(mass, anchors, [3], 1, 3).tolist() == [-1, -1, -1]


def test_an_anchor_between_two_masses_learns_the_one_it_overlaps_more():
    masses = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
    anchors = torch.tensor([[0.2, 0.0, 10.2, 10.0], [40.0, 0.0, 50.0, 10.0], [80.0, 0.0, 90.0, 10.0]])

    assert atss_assignment(masses, anchors, [3], 1, 3).tolist() == [0, -1, -1]


def test_shapes_at_one_position_are_candidates_together():
    mass = torch.tensor([[10.0, 10.0, 20.0, 14.0]])
    # Two positions with a square and a fitting shape each, both positions asked for.
    shapes = [torch.tensor([[x - 5, 7.0, x + 5, 17.0], [x - 5, 10.0, x + 5, 14.0]]) for x in (15.0, 40.0)]

    assigned = atss_assignment(mass, torch.cat(shapes), [4], 2, 2)

    # Overlaps 0.4, 1, 0, 0: mean 0.35, standard deviation 0.473; the fitting shape alone reaches 0.823.
    assert assigned.tolist() == [-1, 0, -1, -1]


@pytest.mark.parametrize("nearest", [2, 9, 100])
def test_every_level_may_have_fewer_anchors_than_asked_for(nearest: int):
    mass = squares([(0.0, 0.0)], 10)

    assert 0 in atss_assignment(mass, row(10, 10, 4), [3, 1], 1, nearest).tolist()
