import math

import pytest
import torch
from torch import nn

from mammoscope.detectors import DetectorSpec, build_detector
from mammoscope.training.optim import (
    AveragedWeights,
    Course,
    all_finite,
    build_optimiser,
    learning_rate_factor,
)
from mammoscope.training.recipe import OptimiserSection, ScheduleSection


@pytest.mark.parametrize(
    ("iteration", "factor"),
    [(0, 0.001), (499, 0.5), (999, 1), (1000, 1), (17999, 1), (18000, 0.1), (23999, 0.1)],
)
def test_the_papers_schedule(iteration: int, factor: float):
    section = ScheduleSection(iterations=24000, batch=16, milestones=(18000,), warmup=1000)

    assert learning_rate_factor(section, Course.of(section), iteration, minutes=1e6) == pytest.approx(factor)


def test_every_milestone_falls_on_its_own_iteration():
    for iterations in range(2, 200):
        section = ScheduleSection(iterations=iterations, batch=1, milestones=(1, iterations - 1))
        assert learning_rate_factor(section, Course.of(section), 0, 0) == 1
        assert learning_rate_factor(section, Course.of(section), 1, 0) == pytest.approx(0.1 if iterations > 2 else 0.01)
        assert learning_rate_factor(section, Course.of(section), iterations - 1, 0) == pytest.approx(0.01)


def test_the_cosine_falls_from_one_to_nothing():
    section = ScheduleSection(iterations=100, batch=1, decay="cosine", warmup=10)

    assert learning_rate_factor(section, Course.of(section), 4, 0) == pytest.approx(
        0.5 * 0.5 * (1 + math.cos(math.pi * 0.04))
    )
    assert learning_rate_factor(section, Course.of(section), 50, 0) == pytest.approx(0.5)
    assert learning_rate_factor(section, Course.of(section), 75, 0) == pytest.approx(0.5 * (1 - math.sqrt(0.5)))
    assert learning_rate_factor(section, Course.of(section), 100, 0) == pytest.approx(0)


def test_a_budget_of_minutes_hastens_the_schedule():
    section = ScheduleSection(iterations=100, batch=1, minutes=60, milestones=(75,))

    assert Course.of(section).progress(10, minutes=30) == 0.5
    assert Course.of(section).progress(80, minutes=30) == 0.8
    assert Course.of(section).progress(10, minutes=61) == 1
    assert learning_rate_factor(section, Course.of(section), 10, minutes=44) == 1
    assert learning_rate_factor(section, Course.of(section), 10, minutes=46) == pytest.approx(0.1)


def test_averaged_weights_by_hand():
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0)
    network.register_buffer("count", torch.tensor(0))
    averaged = AveragedWeights(network, decay=0.5)

    network.weight.data.fill_(10)
    network.count += 1
    averaged.update(network, iteration=0)  # a young run's decay is 1/10
    assert float(averaged.state["weight"]) == pytest.approx(9)
    assert int(averaged.state["count"]) == 1
    averaged.update(network, iteration=1000)  # an old one's the recipe's
    assert float(averaged.state["weight"]) == pytest.approx(9.5)
    assert network.weight.tolist() == [[10]]


def test_the_backbone_learns_at_its_own_rate_and_what_is_frozen_not_at_all():
    spec = DetectorSpec(
        architecture="retinanet", backbone="tf_efficientnet_lite0", frozen_stages=1, fpn_channels=16, norm="group"
    )
    detector = build_detector(spec, load_weights=False)
    section = OptimiserSection(kind="adamw", learning_rate=0.01, backbone_factor=0.1, weight_decay=0.05)
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    seen = {}
    for group in build_optimiser(detector, section).param_groups:
        for parameter in group["params"]:
            seen[names[id(parameter)]] = (group["lr"], group["weight_decay"], parameter.ndim)

    assert set(seen) == {name for name, parameter in detector.named_parameters() if parameter.requires_grad}
    assert "network.backbone.body.conv_stem.weight" not in seen
    for name, (rate, decay, dimensions) in seen.items():
        assert rate == pytest.approx(0.001 if ".body." in name else 0.01), name
        assert decay == (0.05 if dimensions > 1 else 0), name


def test_sgd_decays_all_weights_but_norms_as_detectron2_does():
    detector = nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))
    groups = build_optimiser(detector, OptimiserSection(learning_rate=0.01, weight_decay=0.1)).param_groups

    assert [(group["momentum"], group["weight_decay"]) for group in groups] == [(0.9, 0.1), (0.9, 0)]
    assert [group["params"] for group in groups] == [list(detector[0].parameters()), list(detector[1].parameters())]


def test_a_single_nan_is_found():
    assert all_finite([torch.ones(3), torch.tensor(2)])
    assert not all_finite([torch.ones(3), torch.tensor([1, float("nan")])])
    assert not all_finite([torch.tensor(float("inf"))])


def test_a_smaller_budget_presses_what_is_left_of_the_schedule_into_what_is_left_of_the_time():
    long = ScheduleSection(iterations=1000, batch=1, minutes=20, decay="cosine")
    short = ScheduleSection(iterations=1000, batch=1, minutes=9, decay="cosine")
    course = Course.of(long)
    before = learning_rate_factor(long, course, 100, minutes=5)

    course = course.going_on(short, 100, minutes=5)

    assert learning_rate_factor(short, course, 100, minutes=5) == pytest.approx(before)  # no jump
    assert course.progress(200, minutes=7) == pytest.approx(0.25 + 0.75 * 0.5)
    assert learning_rate_factor(short, course, 300, minutes=9) == pytest.approx(0)  # annealed to its end
    assert course.going_on(short, 200, minutes=7) == course


def test_more_time_stretches_what_is_left():
    short, long = (ScheduleSection(iterations=n, batch=1) for n in (100, 300))
    course = Course.of(short).going_on(long, 50, minutes=1)

    assert course.progress(50, minutes=1) == 0.5
    assert course.progress(175, minutes=1) == 0.75
    assert course.progress(300, minutes=1) == 1


def test_a_budget_that_is_already_used_up_is_at_its_end():
    long, short = (ScheduleSection(iterations=100, batch=1, minutes=minutes) for minutes in (20, 4))

    assert Course.of(long).going_on(short, 10, minutes=5).progress(10, minutes=5) == 1
