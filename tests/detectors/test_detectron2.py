"""Networks and losses beside Detectron2's own (data/detectron2.json, made by make_detectron2_fixture.py)."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mammoscope.detectors import DetectorSpec, MassDetector, build_detector

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "data" / "detectron2.json").read_text())


def load_cases() -> ModuleType:
    described = importlib.util.spec_from_file_location("detectron2_cases", HERE / "detectron2_cases.py")
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


cases = load_cases()


def detector_of(model: str, **options: object) -> MassDetector:
    spec = DetectorSpec(
        architecture="retinanet" if model.startswith("retinanet") else "faster_rcnn",
        backbone="resnet101" if "R_101" in model else "resnet50",
        layout="detectron2",
        weights="none",
        classes=("one", "two"),
        score_threshold=0.05,
        nms_iou=0.5,
        detectron2={"backbone_norm": "frozen_batch", **options},
    )
    detector = build_detector(spec)
    shapes = {name: tuple(value.shape) for name, value in detector.network.state_dict().items()}
    shapes.pop("loss_normaliser", None)
    drawn = {name: torch.from_numpy(value) for name, value in cases.tensors(shapes).items()}
    detector.network.load_state_dict(drawn, strict=False)
    return detector


def images() -> torch.Tensor:
    grey = [torch.from_numpy(cases.image(number)) for number in range(cases.IMAGES)]
    return torch.stack(grey)[:, None].float() / 255


def assert_alike(found: dict[str, np.ndarray], expected: dict[str, list]) -> None:
    """Each of either's detections has its like in the other: box within 0.5 pixel, score within 0.001, same label."""
    boxes, scores, labels = (np.asarray(expected[key]) for key in ("boxes", "scores", "labels"))
    assert len(found["scores"]) == len(scores) > 5
    alike = (
        (np.abs(found["boxes"][:, None] - boxes).max(-1) < 0.5)
        & (np.abs(found["scores"][:, None] - scores) < 0.001)
        & (found["labels"][:, None] == labels)
    )
    assert alike.any(0).all()
    assert alike.any(1).all()


# ResNet-50 is compared through the bundle, in tests/training/test_importing.py.
@pytest.mark.parametrize("model", [name for name in EXPECTED if "R_101" in name])
def test_the_same_weights_find_what_they_find_in_detectron2(model: str):
    detector = detector_of(model).eval()
    with torch.no_grad():
        found = detector(images())

    for one, expected in zip(found, EXPECTED[model]["detections"], strict=True):
        assert_alike({key: value.numpy() for key, value in one.items()}, expected)


@pytest.mark.parametrize("model", [name for name in EXPECTED if "R_50" in name])
def test_the_same_batch_costs_what_it_costs_in_detectron2(model: str):
    # As in the fixture: all anchors and regions are drawn, so that no random generator decides.
    detector = detector_of(model, proposal_sample=100_000, region_sample=100_000).train()
    targets = [
        {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}
        for boxes, labels in zip(cases.BOXES, cases.LABELS, strict=True)
    ]
    with torch.no_grad():
        losses = detector(images(), targets)

    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(EXPECTED[model]["losses"], rel=1e-3)
