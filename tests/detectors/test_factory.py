"""Every detector on small random inputs, and one lesson learned by heart."""

import pytest
import torch
from torchvision.ops import box_iou

from mammoscope.detectors import DetectorSpec, build_detector, count_parameters

LITE = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]
ARCHITECTURES = ["retinanet", "faster_rcnn"]


def small(architecture: str, backbone: str = LITE[0], **parts: object) -> DetectorSpec:
    given = {"weights": "none", "frozen_stages": 0, "fpn_channels": 16, "anchor_scale": 16, "score_threshold": 0.001}
    return DetectorSpec(architecture=architecture, backbone=backbone, **given | parts)


def batch() -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """Two dark pictures of 64 x 64, a bright mass in the first, none in the second."""
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2
    images[0, 0, 20:44, 12:36] = 1
    boxes = [torch.tensor([[12.0, 20, 36, 44]]), torch.zeros(0, 4)]
    return images, [{"boxes": b, "labels": torch.zeros(len(b), dtype=torch.int64)} for b in boxes]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("backbone", ["resnet50", "resnet101", *LITE])
def test_every_detector_builds_learns_and_detects(architecture: str, backbone: str):
    torch.manual_seed(0)
    detector = build_detector(small(architecture, backbone))
    images, targets = batch()

    losses = detector(images, targets)
    sum(losses.values()).backward()
    assert len(losses) == (2 if architecture == "retinanet" else 4)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is not None for p in detector.parameters() if p.requires_grad)

    with torch.no_grad():
        found = detector.eval()(images)
    assert len(found) == 2
    for one in found:
        assert one["boxes"].shape == (len(one["scores"]), 4)
        assert one["labels"].shape == one["scores"].shape
        assert (one["labels"] == 0).all()  # of one class, whatever the architecture counts as background


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        # torchvision's retinanet_resnet50_fpn has 34,014,999, of which 90 more classes for 9 anchors take 1,867,050.
        ("retinanet", 34_014_999 - 90 * 9 * (256 * 9 + 1)),
        # Its fasterrcnn_resnet50_fpn has 41,755,286, of which 89 more classes with a box each take 456,125.
        ("faster_rcnn", 41_755_286 - 89 * 5 * (1024 + 1)),
    ],
)
def test_the_papers_networks_are_torchvisions(architecture: str, parameters: int):
    spec = DetectorSpec(architecture=architecture, backbone="resnet50")

    assert count_parameters(build_detector(spec, load_weights=False)) == parameters


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_detector_learns_a_mass_by_heart(architecture: str):
    torch.manual_seed(0)
    norm = "group" if architecture == "retinanet" else "none"
    detector = build_detector(small(architecture, weights="imagenet", norm=norm))
    images, targets = batch()
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    course = []
    for _ in range(20):
        loss = sum(detector(images, targets).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(float(loss.detach()))

    assert sum(course[-5:]) < 0.7 * sum(course[:5])
    if architecture == "faster_rcnn":
        return  # two stages take longer than a test may to place a box
    with torch.no_grad():
        with_mass, without = detector.eval()(images)
    assert box_iou(with_mass["boxes"][:1], targets[0]["boxes"]) > 0.5
    assert with_mass["scores"][0] > 2 * (without["scores"].max() if len(without["scores"]) else 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_without_any_mass_can_be_learned_from(architecture: str):
    torch.manual_seed(0)
    detector = build_detector(small(architecture))
    images, targets = batch()
    losses = detector(images[1:], targets[1:])

    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_labels_keep_their_index_through_either_architecture(architecture: str):
    torch.manual_seed(0)
    detector = build_detector(small(architecture, classes=("Mass", "Calcification")))
    images, targets = batch()
    targets[0]["labels"] += 1

    losses = detector(images, targets)
    assert all(torch.isfinite(loss) for loss in losses.values())
    with torch.no_grad():
        labels = {int(label) for one in detector.eval()(images) for label in one["labels"]}
    assert labels == {0, 1}
