import pytest

from mammoscope.training.sampling import EndlessShuffle


def shuffled(size: int, batch: int, iterations: int, *, start: int = 0, share: tuple[int, int] = (0, 1), seed: int = 1):
    return list(EndlessShuffle(size, batch, seed, start, iterations, share))


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
