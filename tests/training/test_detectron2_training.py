"""A network of Detectron2's layout in the training loop: killed, gone on with, exported."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mammoscope.imaging import Mammogram
from mammoscope.inference import BundleInput, BundleMetadata, Detector, OperatingPoint
from mammoscope.training import RunFolder, load_recipe, train, trained_detector, write_bundle


class Watcher:
    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.resumed_at: list[int] = []

    def prepared(self, done: int, total: int) -> None: ...

    def resumed(self, iteration: int) -> None:
        self.resumed_at.append(iteration)

    def stepped(self, step) -> None:
        if step.iteration == self.stop_after:
            raise KeyboardInterrupt

    def validated(self, iteration: int, figures) -> None: ...


def test_a_killed_run_goes_on_with_its_running_mean_and_becomes_a_bundle(tiny_recipe, tmp_path: Path):
    def recipe(folder: Path):
        changes = {"schedule__iterations": 2, "schedule__ema": 0, "schedule__batch": 2, "run__checkpoint_every": 1}
        layout = {"detector__layout": "detectron2", "detector__backbone": "resnet50", "detector__weights": "none"}
        layout["detector__norm"] = "none"  # 32 groups of 32 channels cannot be normalised on a map of one pixel
        return load_recipe(tiny_recipe(folder, **layout, **changes))

    unbroken = train(recipe(tmp_path / "unbroken"), Watcher())
    with pytest.raises(KeyboardInterrupt):
        train(recipe(tmp_path / "broken"), Watcher(stop_after=2))
    again = Watcher()
    broken = train(recipe(tmp_path / "broken"), again)

    assert again.resumed_at == [1]
    ours, theirs = broken.load().detector, unbroken.load().detector
    assert 0 < float(theirs["network.loss_normaliser"]) < 100
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, rtol=0, atol=1e-6), name

    point = OperatingPoint(name="default", threshold=0.9, rule="by hand", chosen_on="nothing")
    metadata = BundleMetadata(
        name="tiny",
        version="1",
        input=BundleInput(rows=64, columns=64, crop="breast"),
        classes=("Mass",),
        operating_points=(point,),
        training_data=(),
        made_with="the tests",
    )
    write_bundle(trained_detector(RunFolder(broken.path)), metadata, tmp_path / "tiny.onnx")
    pixels = np.random.default_rng(0).integers(0, 65535, (80, 60), dtype=np.uint16)
    found = Detector(tmp_path / "tiny.onnx", threads=1).candidates(Mammogram(pixels, "noise"))
    assert {finding.label for finding in found} <= {"Mass"}


@pytest.mark.parametrize("name", ["retinanet-r50", "retinanet-r101", "faster_rcnn-r50", "faster_rcnn-r101"])
def test_the_papers_recipes_are_detectron2s(name: str, root: Path):
    recipe = load_recipe(root / "recipes" / "paper" / f"{name}.toml")
    options = recipe.detector.detectron2

    assert recipe.detector.layout == "detectron2"
    assert recipe.detector.backbone == "resnet" + name.rpartition("-r")[2]
    # What Detectron2's documentation asks for with torchvision's ImageNet weights.
    assert options.stride_in_1x1 is False
    assert (options.pixel_mean, options.pixel_std) == ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    assert (recipe.detector.score_threshold, recipe.detector.nms_iou) == (0.05, 0.5)
    assert (recipe.schedule.batch, recipe.schedule.iterations, recipe.schedule.milestones) == (16, 24000, (18000,))
