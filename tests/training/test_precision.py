"""In 16 bits on a CPU, by the same code that a GPU runs."""

import pytest
import torch
from torch import nn

from mammoscope.detectors import build_detector
from mammoscope.training import TrainingError, load_recipe
from mammoscope.training.optim import MixedPrecision, keep_boxes_precise

CPU = torch.device("cpu")


def one_weight(*gradient: float) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    weight = nn.Parameter(torch.zeros(len(gradient)))
    weight.grad = torch.tensor(gradient)
    return weight, torch.optim.SGD([weight], lr=1.0)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_is_by_the_gradients_true_size(precision: str):
    mixed = MixedPrecision(precision, CPU)
    weight, optimiser = one_weight(0.0, 0.0)
    optimiser.zero_grad()
    mixed.scaled((weight * torch.tensor([3.0, 4.0])).sum()).backward()
    mixed.step(optimiser, clip_norm=1.0)

    assert weight.tolist() == pytest.approx([-0.6, -0.8])  # a gradient of norm 5, clipped to 1


def test_only_16_bits_are_autocast():
    layer = nn.Linear(2, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with MixedPrecision(precision, CPU).autocast():
            assert layer(torch.ones(1, 2)).dtype == dtype


def test_an_overflow_skips_the_step_and_halves_the_scale():
    mixed = MixedPrecision("fp16", CPU)
    before = mixed.state()["scale"]
    weight, optimiser = one_weight(0.0)
    optimiser.zero_grad()
    mixed.scaled((weight * 1e38).sum()).backward()  # times 2**16 is more than 32 bits hold
    mixed.step(optimiser, clip_norm=1.0)

    assert weight.tolist() == [0]
    assert mixed.state()["scale"] == before / 2
    again = MixedPrecision("fp16", CPU)
    again.load(mixed.state())
    assert again.state() == mixed.state()


def test_gradients_that_never_become_numbers_stop_the_run():
    mixed = MixedPrecision("fp16", CPU)

    def broken_step() -> None:
        weight, optimiser = one_weight(0.0)
        optimiser.zero_grad()
        mixed.scaled((weight * float("nan")).sum()).backward()
        mixed.step(optimiser, clip_norm=None)

    for _ in range(29):
        broken_step()
    with pytest.raises(TrainingError, match="no number in the last 30 steps"):
        broken_step()


def test_without_a_scale_there_is_nothing_to_keep():
    mixed = MixedPrecision("bf16", CPU)
    assert mixed.state() == {}
    mixed.load({})
    assert mixed.state() == {}


@pytest.mark.parametrize("architecture", ["retinanet", "faster_rcnn"])
def test_boxes_and_losses_are_made_in_32_bits(architecture: str, tiny_recipe, tmp_path):
    changes = {"detector__architecture": architecture, "detector__norm": "none"}
    recipe = load_recipe(tiny_recipe(tmp_path, **changes))
    torch.manual_seed(0)
    detector = build_detector(recipe.detector).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = detector(torch.rand(1, 1, 64, 64))[0]["boxes"]
        keep_boxes_precise(detector)
        found = detector(torch.rand(1, 1, 64, 64))[0]
    assert found["boxes"].dtype == torch.float32
    assert (found["boxes"] != found["boxes"].bfloat16().float()).any()
    assert rough.dtype == torch.bfloat16 or architecture == "faster_rcnn"

    target = {"boxes": torch.tensor([[10.0, 12, 40, 50]]), "labels": torch.tensor([0])}
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector.train()(torch.rand(1, 1, 64, 64), [target])
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert all(torch.isfinite(loss) for loss in losses.values())
