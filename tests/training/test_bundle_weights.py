"""The shipped bundle as the start of a run."""

from pathlib import Path

import pytest
import torch

from mammoscope.detectors import build_detector
from mammoscope.inference import Bundle, shipped_bundle
from mammoscope.training import TrainingError, load_recipe
from mammoscope.training.bundle_weights import begin_with, load_bundle_weights

ROOT = Path(__file__).resolve().parents[2]


def shipped_detector(*changes: str):
    """A fresh detector as the shipped model's recipe describes it."""
    recipe = load_recipe(ROOT / "recipes" / "cpu-sharp.toml", changes)
    torch.manual_seed(0)
    return build_detector(recipe.detector, load_weights=False)


def test_the_shipped_bundle_gives_its_weights_back():
    detector = shipped_detector()
    before = {name: value.clone() for name, value in detector.state_dict().items()}

    load_bundle_weights(detector, shipped_bundle())

    changed = [name for name, value in detector.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == list(before)  # each tensor was found, the norms' too
    picture = torch.zeros(1, 1, 512, 320)
    y, x = torch.meshgrid(torch.arange(512.0), torch.arange(320.0), indexing="ij")
    picture[0, 0] = 0.35 + 0.4 * torch.exp(-(((x - 150) / 25) ** 2 + ((y - 240) / 25) ** 2)) - 0.3 * (x > 280)
    boxes, scores, labels = Bundle.open(shipped_bundle(), threads=1).run(picture[0, 0].numpy())
    with torch.no_grad():
        (found,) = detector.eval()(picture)
    assert len(scores) > 0
    assert found["scores"].numpy() == pytest.approx(scores, abs=1e-4)
    assert found["boxes"].numpy() == pytest.approx(boxes, abs=0.01)
    assert found["labels"].tolist() == labels.tolist()


def test_the_word_shipped_is_that_bundle():
    """As the recipe to adapt the model begins; its detector is the shipped one's."""
    recipe = load_recipe(ROOT / "recipes" / "adapt.toml")
    assert recipe.start == Path("shipped")
    begun, expected = (build_detector(recipe.detector, load_weights=False) for _ in range(2))
    begin_with(begun, recipe.start)
    load_bundle_weights(expected, shipped_bundle())
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in begun.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("detector.fpn_channels=32", "holds another detector than this recipe's"),
        ('detector.norm="none"', "holds another detector than this recipe's"),
        ("detector.anchor_scale=32", "do not give its detections"),
    ],
)
def test_a_bundle_of_another_detector_is_refused(change: str, message: str):
    with pytest.raises(TrainingError, match=message):
        load_bundle_weights(shipped_detector(change), shipped_bundle())


def test_a_file_that_is_no_bundle_is_told(tmp_path: Path):
    (tmp_path / "no.onnx").write_bytes(b"nothing")

    with pytest.raises(TrainingError, match=r"start: .*no\.onnx is not a model"):
        load_bundle_weights(shipped_detector(), tmp_path / "no.onnx")
