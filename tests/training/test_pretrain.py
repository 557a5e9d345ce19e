"""Pretraining on patches of twelve small pictures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mammoscope.detectors import DetectorSpec, build_detector
from mammoscope.training import PatchFigures, TrainingError, load_pretrain_recipe, pretrain
from mammoscope.training.data import PreparedSamples
from mammoscope.training.pretraining.patches import PatchCutter, TrainingPatches, judged_patches, patch_figures
from mammoscope.training.pretraining.recipe import PatchSection
from mammoscope.training.recipe import AugmentationSection


class Watcher:
    """Remembers what it was told; stops after an iteration if asked to."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.resumed_at: list[int] = []
        self.steps: list[int] = []

    def prepared(self, done: int, total: int) -> None: ...

    def resumed(self, iteration: int) -> None:
        self.resumed_at.append(iteration)

    def stepped(self, iteration: int, progress: float, loss: float, minutes_left: float) -> None:
        assert (progress == iteration / 4, loss > 0, minutes_left >= 0) == (True, True, True)
        self.steps.append(iteration)
        if iteration == self.stop_after:
            raise KeyboardInterrupt

    def validated(self, iteration: int, figures: PatchFigures) -> None: ...


@pytest.fixture
def write_recipe(tiny_dataset: Path, tmp_path: Path):
    def write(folder: str = "run", **changes: str) -> Any:
        file = tmp_path / "pretrain.toml"
        file.write_text(f"""
name = "tiny"
backbone = "resnet50"
dataset = "{tiny_dataset}"
[input]
rows = 64
columns = 64
[patch]
size = 32
tissue = 0.3
[augmentation]
rotation_degrees = 20.0
[optimiser]
kind = "adamw"
learning_rate = 1e-3
[schedule]
iterations = 4
batch = 4
ema = 0.9
[run]
folder = "{tmp_path / folder}"
seed = 2
checkpoint_every = 2
threads = 1
""")
        return load_pretrain_recipe(file, tuple(f"{key.replace('__', '.')}={value}" for key, value in changes.items()))

    return write


def test_the_weights_fit_a_detector_with_their_statistics(write_recipe, tmp_path: Path):
    watcher = Watcher()
    done = pretrain(write_recipe(), watcher)

    assert done.weights == tmp_path / "run" / "resnet50.pth"
    assert (done.figures.masses, done.figures.background <= 5) == (3, True)
    assert json.loads((tmp_path / "run" / "figures.json").read_text())["auc"] == done.figures.auc
    assert watcher.steps == [1, 2, 3, 4]
    state = torch.load(done.weights, weights_only=True)
    assert not any(name.startswith("fc.") for name in state)
    spec = DetectorSpec(architecture="retinanet", backbone="resnet50", weights=done.weights, frozen_stages=0)
    body = build_detector(spec).network.backbone.body
    assert torch.equal(body.layer3[0].conv2.weight, state["layer3.0.conv2.weight"])
    assert torch.equal(body.bn1.running_var, state["bn1.running_var"])
    assert not torch.equal(state["bn1.running_var"], torch.ones(64))


def test_a_stopped_run_ends_with_the_weights_of_an_unbroken_one(write_recipe):
    unbroken = pretrain(write_recipe("unbroken"), Watcher())
    with pytest.raises(KeyboardInterrupt):
        pretrain(write_recipe("broken"), Watcher(stop_after=3))
    again = Watcher()
    broken = pretrain(write_recipe("broken"), again)

    assert again.resumed_at == [2]
    one, other = (torch.load(done.weights, weights_only=True) for done in (unbroken, broken))
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=0, atol=1e-5), name
    with pytest.raises(TrainingError, match="by another recipe or on other data"):
        pretrain(write_recipe("broken", patch__tissue="0.2"), Watcher())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"patch__size": "96"}, "no larger than the input"),
        ({"augmentation__copy_paste": "0.5"}, "a patch is of one class"),
        ({"schedule__batch": "5"}, "schedule.batch"),
        ({"schedule__accumulate": "2"}, "schedule.accumulate: a recipe has no such key"),
        ({"backbone": '"tf_efficientnet_lite0"'}, "backbone"),
        ({"patch__sise": "64"}, "patch.sise: a recipe has no such key"),
    ],
)
def test_a_recipe_that_cannot_be_is_told(write_recipe, change: dict[str, str], told: str):
    with pytest.raises(TrainingError, match=told):
        write_recipe(**change)


def bright_square(boxes: bool = True) -> PreparedSamples:
    """A picture of 128 x 128, half bright all over, with a mass of 20 x 20 at (30, 40)."""
    pixels = np.full((1, 128, 128), 128, np.uint8)
    pixels[0, 40:60, 30:50] = 255
    box = np.array([[30.0, 40, 50, 60]]) if boxes else np.empty((0, 4))
    return PreparedSamples(pixels, [box], [np.zeros(len(box), np.int64)])


def test_even_patches_show_a_mass_and_odd_ones_none():
    samples, section = bright_square(), PatchSection(size=32, clear=0.0)
    patches = TrainingPatches(PatchCutter(samples, section), 1, section, AugmentationSection(rotation_degrees=20), 1)
    for number in range(20):
        pixels, shows_mass = patches[number]
        assert pixels.shape == (1, 32, 32)
        assert shows_mass == (number % 2 == 0)
        assert (pixels.max() > 0.9) == bool(shows_mass)
        assert torch.equal(pixels, patches[number][0])
    assert not torch.equal(patches[0][0], patches[2][0])


def test_a_patch_over_the_edge_is_black_outside():
    cutter = PatchCutter(bright_square(), PatchSection(size=32))
    patch = cutter.cut(0, (0.0, 120.0), 32)
    assert np.all(patch[:24, 16:] == np.float32(128) / np.float32(255))
    assert np.all(patch[:, :16] == 0)
    assert np.all(patch[24:] == 0)


def test_judged_patches_are_a_mass_and_a_background_of_each_image():
    samples, section = bright_square(), PatchSection(size=32, clear=0.0)
    judged = judged_patches(PatchCutter(samples, section), samples, ["p1"], section)
    assert judged.masses.tolist() == [True, False]
    assert judged.patients.tolist() == ["p1", "p1"]
    # The mass fills its patch from pixel 6 to 26.
    assert judged.pixels[0, 0, 6:26, 6:26].min() == 1
    assert judged.pixels[1].max() < 0.6


def test_a_split_without_a_box_is_told():
    with pytest.raises(TrainingError, match="no box at all"):
        PatchCutter(bright_square(boxes=False), PatchSection(size=32))


def test_figures_by_hand():
    # Pairs of a mass (0.9, 0.4) and a background (0.6, 0.4): won, won, lost, tied: 2.5 of 4.
    scores, masses = np.array([0.9, 0.4, 0.6, 0.4]), np.array([True, True, False, False])
    figures = patch_figures(scores, masses, np.array(["a", "b", "a", "b"]))
    assert figures.auc == 0.625
    # One of two masses reaches 0.5, one of two backgrounds does not.
    assert figures.balanced_accuracy == 0.5
    assert figures.auc_interval is not None
    # Patient a alone gives 1, b alone 0.5, both 0.625.
    assert figures.auc_interval == (0.5, 1.0)
    assert asdict(figures)["masses"] == 2
