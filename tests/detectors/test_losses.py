"""Losses of a whole batch against those of one image after the other, and how many operators a step costs."""

import collections
import runpy
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mammoscope.detectors import DetectorSpec, build_detector
from mammoscope.detectors.losses import Truth

per_image_losses = runpy.run_path(str(Path(__file__).with_name("per_image_losses.py")))["per_image_losses"]

ROWS, COLUMNS = 256, 160
SPEC = {
    "architecture": "retinanet",
    "backbone": "tf_efficientnet_lite0",
    "weights": "none",
    "frozen_stages": 0,
    "fpn_channels": 16,
    "norm": "group",
    "anchor_scale": 16,
}
WAYS = [
    ("iou", "focal", "l1"),
    ("iou", "focal", "giou"),
    ("iou", "varifocal", "giou"),
    ("atss", "focal", "giou"),
    ("atss", "varifocal", "giou"),
]


def some_targets(images: int, classes: int = 1) -> list[dict[str, torch.Tensor]]:
    """None to four masses an image, the first image without any."""
    draw = torch.Generator().manual_seed(3)
    targets = []
    for image in range(images):
        count = image % 5
        corner = torch.rand(count, 2, generator=draw) * torch.tensor([90.0, 180.0])
        size = 8 + torch.rand(count, 2, generator=draw) * 56
        labels = torch.randint(0, classes, (count,), generator=draw)
        targets.append({"boxes": torch.cat([corner, corner + size], dim=1), "labels": labels})
    return targets


@pytest.mark.parametrize(("matching", "class_loss", "box_loss"), WAYS)
@pytest.mark.parametrize("classes", [1, 3])
def test_a_batch_has_the_losses_and_gradients_of_its_images(matching, class_loss, box_loss, classes):
    parts = {"matching": matching, "class_loss": class_loss, "box_loss": box_loss}
    names = tuple("abc"[:classes])
    network = build_detector(DetectorSpec(**SPEC, **parts, classes=names), load_weights=False).network
    features = [torch.zeros(1, 1, -(-ROWS // stride), -(-COLUMNS // stride)) for stride in (8, 16, 32, 64, 128)]
    levels = network.anchor_generator.per_level((ROWS, COLUMNS), features)
    anchors = torch.cat(levels)
    draw = torch.Generator().manual_seed(7)
    logits = torch.randn(10, len(anchors), classes, generator=draw).requires_grad_()
    regression = (torch.randn(10, len(anchors), 4, generator=draw) * 0.3).requires_grad_()
    targets = some_targets(10, classes)

    ours = network._losses(Truth.from_targets(targets), logits, regression, levels)
    ours_gradient = torch.autograd.grad(sum(ours.values()), (logits, regression))
    sizes = [len(level) for level in levels]
    theirs = per_image_losses(
        targets, logits, regression, anchors, sizes, 9, matching, class_loss, box_loss, network.box_coder
    )
    theirs_gradient = torch.autograd.grad(sum(theirs.values()), (logits, regression))

    for name in ("classification", "bbox_regression"):
        assert ours[name].item() == pytest.approx(theirs[name].item(), rel=1e-5), name
    for mine, other in zip(ours_gradient, theirs_gradient, strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("matching", "class_loss", "box_loss"), WAYS)
def test_padding_changes_nothing(matching, class_loss, box_loss):
    parts = {"matching": matching, "class_loss": class_loss, "box_loss": box_loss}
    torch.manual_seed(0)
    detector = build_detector(DetectorSpec(**SPEC, **parts), load_weights=False)
    images, truth = torch.rand(2, 1, 64, 64), Truth.from_targets(some_targets(2))
    wider = Truth(
        torch.cat([truth.boxes, torch.full((2, 5, 4), 7.0)], dim=1),
        torch.cat([truth.labels, torch.zeros(2, 5, dtype=torch.int64)], dim=1),
        torch.cat([truth.valid, torch.zeros(2, 5, dtype=torch.bool)], dim=1),
    )
    wider.boxes[:, -5:, 2:] += 3
    few, many = detector(images, truth), detector(images, wider)

    for name, value in few.items():
        assert many[name].item() == pytest.approx(value.item(), rel=1e-6)


class Operators(TorchDispatchMode):
    """Counts what is dispatched, backward passes too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        self.seen[str(operator)] += 1
        return operator(*arguments, **(keywords or {}))


@pytest.mark.parametrize(("matching", "class_loss", "box_loss"), WAYS)
def test_losses_wait_for_nothing_and_cost_as_many_operators_for_any_batch(matching, class_loss, box_loss):
    parts = {"matching": matching, "class_loss": class_loss, "box_loss": box_loss}
    detector = build_detector(DetectorSpec(**SPEC, **parts), load_weights=False)
    counted = []
    for images in (2, 16):
        truth = Truth.from_targets(some_targets(images))
        pixels = torch.rand(images, 1, 64, 64)
        detector(pixels, truth)  # makes the anchors
        with Operators() as operators:
            sum(detector(pixels, truth).values()).backward()
        counted.append(operators.seen.total())
        # What makes a GPU wait: reading a number, shapes that depend on values.
        assert not [name for name in operators.seen if "local_scalar" in name or "nonzero" in name]

    # Loops would add hundreds; a few operators depend on shapes.
    assert abs(counted[1] - counted[0]) <= 5
    assert counted[1] < 1500
