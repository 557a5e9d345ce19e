from collections import Counter

import numpy as np
import pytest

from mammoscope.training import TrainingError
from mammoscope.training.recipe import SamplingSection
from mammoscope.training.samplers import EndlessShuffle, sampling_weights


def shuffled(
    size: int,
    batch: int,
    iterations: int,
    *,
    start: int = 0,
    share: tuple[int, int] = (0, 1),
    seed: int = 1,
    weights=None,
):
    return list(EndlessShuffle(size, batch, seed, start, iterations, share, weights))


@pytest.mark.parametrize(("size", "batch"), [(12, 4), (10, 4), (3, 8)])
def test_each_image_comes_once_an_epoch(size: int, batch: int):
    keys = [key for keys in shuffled(size, batch, 30) for key in keys]
    epochs = len(keys) // size

    assert all(len(batch_keys) == batch for batch_keys in shuffled(size, batch, 30))
    for epoch in range(epochs):
        assert sorted(index for e, index in keys if e == epoch) == list(range(size))
    orders = [[index for e, index in keys if e == epoch] for epoch in range(epochs)]
    assert len({tuple(order) for order in orders}) > 1


def test_a_start_in_the_middle_goes_on_with_the_same_keys():
    assert shuffled(10, 4, 30, start=13) == shuffled(10, 4, 30)[13:]
    assert shuffled(10, 4, 30, start=30) == []
    assert len(EndlessShuffle(10, 4, 1, 13, 30)) == 17


def test_another_seed_is_another_order():
    assert shuffled(10, 4, 5) != shuffled(10, 4, 5, seed=2)


def test_two_processes_share_each_batch():
    whole = shuffled(10, 4, 20)
    for both, one, other in zip(
        whole, shuffled(10, 4, 20, share=(0, 2)), shuffled(10, 4, 20, share=(1, 2)), strict=True
    ):
        assert len(one) == len(other) == 2
        assert sorted(one + other) == sorted(both)


def weighted(labels: list[list[int]], **section: float):
    return sampling_weights([np.array(held, dtype=np.int64) for held in labels], SamplingSection(**section))


def test_without_being_asked_for_all_images_are_alike():
    assert weighted([[0], [], [1]]) is None


def test_repeat_factors_by_hand():
    # Class 0 is on 8 of 16 images, class 1 on 1 of 16: with the threshold 1/4 its factor is sqrt(4) = 2.
    labels = [[0]] * 7 + [[0, 1]] + [[]] * 8
    assert weighted(labels, repeat_threshold=0.25).tolist() == [1] * 7 + [2] + [1] * 8


def test_images_without_boxes_get_their_share():
    weights = weighted([[0], [0], [], [], [], []], without_boxes=0.25)
    assert weights[2:].sum() / weights.sum() == pytest.approx(0.25)
    assert weights[:2].tolist() == pytest.approx([0.375, 0.375])
    assert weighted([[0], [], [0]], without_boxes=0.0).tolist() == [0.5, 0, 0.5]


def test_images_with_hard_negatives_come_more_often():
    labels = [np.array([0]), np.array([0]), np.array([], dtype=np.int64), np.array([], dtype=np.int64)]
    rejected = [0, 3, 0, 1]
    assert sampling_weights(labels, SamplingSection(), rejected).tolist() == [1, 2, 1, 2]
    assert sampling_weights(labels, SamplingSection(hard_negatives=4.0), rejected).tolist() == [1, 4, 1, 4]
    assert sampling_weights(labels, SamplingSection(hard_negatives=1.0), rejected) is None
    assert sampling_weights(labels, SamplingSection(), [0] * 4) is None
    shared = sampling_weights(labels, SamplingSection(without_boxes=0.25), rejected)
    assert shared.tolist() == pytest.approx([0.25, 0.5, 0.25 / 3, 0.5 / 3])


def test_both_together():
    # Class 1 is on a fourth of the images: with the threshold 1 its factor is 2, class 0's sqrt(2).
    weights = weighted([[0], [0], [1], []], repeat_threshold=1.0, without_boxes=0.5)
    assert weights[3] == pytest.approx(0.5)
    assert weights[2] / weights[0] == pytest.approx(np.sqrt(2))
    assert weights.sum() == pytest.approx(1)


def test_what_the_images_cannot_give_is_told():
    with pytest.raises(TrainingError, match="asks for images without boxes and the training images all have some"):
        weighted([[0], [0]], without_boxes=0.1)
    with pytest.raises(TrainingError, match="no training image has a box"):
        weighted([[], []], without_boxes=0.1)


def test_weights_are_kept_to_in_every_epoch():
    weights = np.array([2.0, 1, 1, 1, 0.5, 0.5, 0, 2])  # of 8 draws an epoch exactly as many
    keys = [key for keys in shuffled(8, 4, 100, weights=weights) for key in keys]

    assert len(set(keys)) == len(keys) == 400
    shown = Counter(index for _, index in keys)
    assert [shown[index] for index in range(8)] == pytest.approx((weights * 50).tolist(), abs=12)
    for epoch in range(50):
        counted = Counter(index for _, index in keys[8 * epoch : 8 * epoch + 8])
        for index, weight in enumerate(weights):
            assert np.floor(weight) <= counted[index] <= np.ceil(weight)


def test_weighted_too_a_start_in_the_middle_goes_on_and_two_processes_share():
    weights = np.array([3.0, 1, 1, 2, 0.2])
    whole = shuffled(5, 4, 20, weights=weights)
    assert shuffled(5, 4, 20, start=7, weights=weights) == whole[7:]
    halves = [shuffled(5, 4, 20, weights=weights, share=(number, 2)) for number in (0, 1)]
    assert [sorted(one + other) for one, other in zip(*halves, strict=True)] == [sorted(keys) for keys in whole]
    orders = {tuple(index for _, index in keys) for keys in whole}
    assert len(orders) > 5
