from pathlib import Path

import numpy as np
import pytest
import torch

from mammoscope.detectors import build_detector
from mammoscope.findings import ReadingStatus
from mammoscope.imaging import Mammogram
from mammoscope.inference import BundleInput, BundleMetadata, Detector, OperatingPoint
from mammoscope.training import RunFolder, TrainingError, load_recipe, trained_detector, write_bundle


@pytest.mark.parametrize("architecture", ["retinanet", "faster_rcnn"])
def test_a_detector_that_proposes_nothing_becomes_a_bundle_that_proposes_nothing(
    architecture: str, tiny_recipe, tmp_path: Path
):
    changes = {"detector__architecture": architecture, "detector__norm": "none"}
    recipe = load_recipe(tiny_recipe(tmp_path, **changes))
    torch.manual_seed(0)
    detector = build_detector(recipe.detector, load_weights=False).eval()
    if architecture == "retinanet":
        detector.network.head.classification_head.cls_logits.bias.data.fill_(-30)
    else:
        detector.network.roi_heads.box_predictor.cls_score.bias.data.copy_(torch.tensor([30.0, -30.0]))
    metadata = BundleMetadata(
        name="blind",
        version="1",
        input=BundleInput(rows=64, columns=64, crop=recipe.input.crop),
        classes=("Mass",),
        operating_points=(OperatingPoint(name="default", threshold=0.1, rule="by hand", chosen_on="nothing"),),
        training_data=(),
        made_with="the tests",
    )
    write_bundle(detector, metadata, tmp_path / "new" / "blind.onnx")

    assert not any(module.training for module in detector.modules())
    pixels = np.random.default_rng(0).integers(0, 65535, (80, 60), dtype=np.uint16)
    reading = Detector(tmp_path / "new" / "blind.onnx", threads=1).read(Mammogram(pixels, "noise"))
    assert reading.status is ReadingStatus.NOTHING_FOUND
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["blind.onnx"]


def test_the_trained_detector_has_the_averaged_weights_and_is_ready_to_run(killed_run):
    run = RunFolder(killed_run.folder)
    checkpoint = run.load()
    detector = trained_detector(run)

    assert not detector.training
    for name, value in detector.state_dict().items():
        assert torch.equal(value, checkpoint.averaged[name])
    assert any(not torch.equal(value, checkpoint.detector[name]) for name, value in checkpoint.averaged.items())


def test_a_folder_without_a_checkpoint_has_no_detector(tiny_recipe, tmp_path: Path):
    run = RunFolder.open(tmp_path / "run", load_recipe(tiny_recipe(tmp_path / "run")), "data")

    with pytest.raises(TrainingError, match="has no checkpoint yet"):
        trained_detector(run)
