from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mammoscope.training import TrainingError, load_recipe
from mammoscope.training.data import PreparedSamples, build_batches

DRAWN = PreparedSamples(np.zeros((6, 64, 64), np.uint8), [np.zeros((0, 4))] * 6, [np.zeros(0, np.int64)] * 6)


def process(number: int = 0, of: int = 1) -> SimpleNamespace:
    """What the loader asks of an accelerator."""
    return SimpleNamespace(num_processes=of, process_index=number, device=torch.device("cpu"))


def test_two_processes_load_the_batches_of_one(tiny_recipe, tmp_path: Path):
    changes = {"augmentation__noise": 0.5, "schedule__iterations": 3}  # noise tells every sample from every other
    recipe = load_recipe(tiny_recipe(tmp_path, **changes))
    whole = [images for images, _ in build_batches(recipe, DRAWN, process(), 0)]
    halves = [[images for images, _ in build_batches(recipe, DRAWN, process(n, 2), 0)] for n in (0, 1)]

    assert len(whole) == 3
    for batch, one, other in zip(whole, *halves, strict=True):
        assert torch.equal(batch[0::2], one)
        assert torch.equal(batch[1::2], other)
    (last,) = [images for images, _ in build_batches(recipe, DRAWN, process(), 2)]
    assert torch.equal(last, whole[2])


def test_a_batch_that_does_not_divide_is_told(tiny_recipe, tmp_path: Path):
    recipe = load_recipe(tiny_recipe(tmp_path, schedule__batch=6, schedule__accumulate=2))
    sentence = r"batch = 6 does not divide among 2 processes in 2 parts each: choose a multiple of 4"
    with pytest.raises(TrainingError, match=sentence):
        build_batches(recipe, DRAWN, process(0, 2), 0)
