"""Losses and voted boxes of the RetinaNet that goes beyond the paper's."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mammoscope.detectors import DetectorSpec, build_detector
from mammoscope.detectors.losses import Truth

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
    return build_detector(DetectorSpec(**SMALL | parts)).network


def losses(retinanet, target: dict[str, torch.Tensor], logits: torch.Tensor, anchors: torch.Tensor):
    """Classification and box loss of one image whose boxes are the anchors, unmoved; all anchors of one level."""
    truth = Truth.from_targets([target])
    retinanet.anchor_generator.num_anchors_per_location = lambda: [1]
    found = retinanet._losses(truth, logits[None], torch.zeros(1, len(anchors), 4), [anchors])
    return found["classification"], found["bbox_regression"]


def test_varifocal_loss_by_hand():
    retinanet = network(class_loss="varifocal")
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [30.0, 30.0, 40.0, 40.0]])
    target = {"boxes": torch.tensor([[0.0, 0.0, 10.0, 5.0]]), "labels": torch.tensor([0])}
    logits = torch.tensor([[1.0], [-1.0]])

    class_loss, box_loss = losses(retinanet, target, logits, anchors)

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

    class_loss, box_loss = losses(retinanet, target, logits, anchors)
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
    detector = build_detector(DetectorSpec(**SMALL | {"nms_iou": 0.4, "max_detections": 7})).eval()
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


@pytest.mark.parametrize("vote_iou", [None, 0.5])
def test_candidates_that_are_no_boxes_suppress_and_move_nothing(vote_iou: float | None):
    nan = float("nan")
    candidates = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 9], [nan, 0, 10, 10], [0, 0, 10, 10.5]]),
        "scores": torch.tensor([0.5, 0.9, 0.8, 0.4]),
        "labels": torch.zeros(4, dtype=torch.int64),
    }

    found = network(vote_iou=vote_iou)._suppress(candidates)

    assert found["scores"].tolist() == pytest.approx([0.5])
    assert torch.isfinite(found["boxes"]).all()


@pytest.mark.parametrize("architecture", ["retinanet", "faster_rcnn"])
@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (96, 64), (80, 72), (256, 160)])
def test_an_input_of_any_size_is_seen_as_it_is(architecture: str, rows: int, columns: int):
    # torchvision's own transform would resize it in use and leave it alone in training.
    parts = SMALL | {"architecture": architecture, "box_loss": "l1"}
    detector = build_detector(DetectorSpec(**parts)).eval()
    seen = []
    detector.network.backbone.register_forward_hook(lambda _module, given, _out: seen.append(given[0]))
    image = torch.rand(1, 1, rows, columns)
    with torch.no_grad():
        (found,) = detector(image)

    (pixels,) = seen
    assert pixels.shape[-2:] == (-(-rows // 32) * 32, -(-columns // 32) * 32)
    assert torch.allclose(pixels[..., :rows, :columns], (image.expand(-1, 3, -1, -1) - 0.5) / 0.5)
    assert not pixels[..., rows:, :].any()
    assert not pixels[..., columns:].any()
    assert (found["boxes"] <= torch.tensor([columns, rows] * 2)).all()


def test_anchors_are_exact_however_coarse_the_features():
    generator = build_detector(DetectorSpec(**SMALL)).network.anchor_generator
    coarse = torch.zeros(1, 1, 128, 80, dtype=torch.bfloat16)
    features = [coarse[..., :: 2**level, :: 2**level] for level in range(5)]
    anchors = torch.cat(generator.per_level((1024, 640), features))

    assert anchors.dtype == torch.float32
    assert anchors[-9 * 5 * 8 :, 2].max() > 512
    centres = (anchors[: 9 * 80, 0] + anchors[: 9 * 80, 2]) / 2
    assert centres.view(80, 9)[:, 0].tolist() == [8.0 * number for number in range(80)]
