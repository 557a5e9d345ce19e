"""Losses and voted boxes of the RetinaNet that goes beyond the paper's."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mammoscope.detectors import DetectorSpec, build_detector

SMALL = {
    "architecture": "retinanet",
    "backbone": "tf_efficientnet_lite0",
    "weights": "none",
    "frozen_stages": 0,
    "fpn_channels": 16,
    "anchor_scale": 16,
    "box_loss": "giou",
    "score_threshold": 0.01,
}


def network(**parts: object):
    return build_detector(DetectorSpec(**SMALL | parts), 64, 64).network


def test_varifocal_loss_by_hand():
    retinanet = network(class_loss="varifocal")
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [30.0, 30.0, 40.0, 40.0]])
    target = {"boxes": torch.tensor([[0.0, 0.0, 10.0, 5.0]]), "labels": torch.tensor([0])}
    logits = torch.tensor([[1.0], [-1.0]])

    class_loss, box_loss = retinanet._losses(target, logits, torch.zeros(2, 4), anchors, assigned=torch.tensor([0, -1]))

    # The first anchor's box, unmoved, overlaps its mass by half: the goal 0.5, weighted by 0.5. Background: 0.75 p^2.
    p, q = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))
    positive = -0.5 * (0.5 * math.log(p) + 0.5 * math.log(1 - p))
    negative = -0.75 * q**2 * math.log(1 - q)
    assert float(class_loss) == pytest.approx(positive + negative, rel=1e-5)
    # The hull is the anchor itself, so GIoU is the overlap, 0.5; the box loss counts twice.
    assert float(box_loss) == pytest.approx(2 * 0.5, rel=1e-5)


def test_background_learns_from_images_without_masses():
    retinanet = network(class_loss="varifocal", matching="atss")
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    logits = torch.tensor([[2.0], [-3.0]], requires_grad=True)
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [30.0, 30.0, 40.0, 40.0]])

    class_loss, box_loss = retinanet._losses(
        target, logits, torch.zeros(2, 4), anchors, retinanet._assign(target["boxes"], anchors)
    )
    class_loss.backward()

    assert float(box_loss) == 0
    assert (logits.grad > 0).all()  # descent lowers both scores


@pytest.mark.parametrize("matching", ["iou", "atss"])
@pytest.mark.parametrize("class_loss", ["focal", "varifocal"])
def test_every_way_of_learning_lowers_its_loss(matching: str, class_loss: str):
    torch.manual_seed(0)
    detector = build_detector(
        DetectorSpec(
            **SMALL | {"norm": "group", "weights": "imagenet", "matching": matching, "class_loss": class_loss}
        ),
        64,
        64,
    )
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2
    images[0, 0, 20:44, 12:36] = 1
    targets = [
        {"boxes": torch.tensor([[12.0, 20, 36, 44]]), "labels": torch.tensor([0])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    course = []
    for _ in range(20):
        losses = detector(images, targets)
        assert set(losses) == {"classification", "bbox_regression"}
        loss = sum(losses.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(float(losses["bbox_regression"].detach()))

    # Of the box alone: varifocal loss asks for higher scores as boxes get better, so it may rise meanwhile.
    assert sum(course[-5:]) < 0.8 * sum(course[:5])


def test_a_box_is_the_mean_of_those_that_overlap_it():
    candidates = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [2.0, 0, 12, 10], [50.0, 50, 60, 60], [8.0, 0, 18, 10]]),
        "scores": torch.tensor([0.6, 0.2, 0.5, 0.4]),
        "labels": torch.tensor([0, 0, 0, 0]),
    }

    found = network(vote_iou=0.5, nms_iou=0.3)._suppress(candidates)

    # The second overlaps the first by 80 / 120 and moves it by 2 * 0.2 / 0.8; the last overlaps it by 20 / 180 only.
    assert found["boxes"].numpy() == pytest.approx(np.array([[0.5, 0, 10.5, 10], [50, 50, 60, 60], [8.0, 0, 18, 10]]))
    assert found["scores"].tolist() == pytest.approx([0.6, 0.5, 0.4])


def test_boxes_of_another_class_have_no_vote():
    candidates = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [2.0, 0, 12, 10]]),
        "scores": torch.tensor([0.6, 0.2]),
        "labels": torch.tensor([0, 1]),
    }

    found = network(vote_iou=0.5, classes=("Mass", "Calcification"))._suppress(candidates)

    assert found["boxes"].tolist() == candidates["boxes"].tolist()


def test_without_a_vote_detections_are_torchvisions():
    torch.manual_seed(0)
    detector = build_detector(DetectorSpec(**SMALL | {"nms_iou": 0.4, "max_detections": 7}), 64, 64).eval()
    network = detector.network
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        for head in (network.head.classification_head.cls_logits, network.head.regression_head.bbox_reg):
            torch.nn.init.normal_(head.weight, std=0.3)
        found = detector(image)[0]
        network.nms_thresh, network.detections_per_img = 0.4, 7
        network._suppress = lambda candidates: candidates
        expected = detector(image)[0]

    assert len(found["scores"]) == 7
    assert torch.equal(found["boxes"], expected["boxes"])
    assert torch.equal(found["scores"], expected["scores"])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"box_loss": "l1", "matching": "atss"}, "need box_loss"),
        ({"box_loss": "l1", "class_loss": "varifocal"}, "need box_loss"),
        ({"architecture": "faster_rcnn", "box_loss": "l1", "vote_iou": 0.5}, "vote_iou"),
        ({"architecture": "faster_rcnn", "box_loss": "l1", "matching": "atss"}, "matching"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        DetectorSpec(**SMALL | parts)
