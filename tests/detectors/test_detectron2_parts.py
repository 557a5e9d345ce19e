"""Detectron2's parts by hand, and that networks of its layout learn."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from mammoscope.detectors import DetectorSpec, MassDetector, WeightsError, build_detector
from mammoscope.detectors.detectron2.boxes import Anchors, box_loss, match, pool_regions, sample


def small(architecture: str, **parts: object) -> MassDetector:
    given = {"weights": "none", "frozen_stages": 0, "fpn_channels": 32, "anchor_scale": 16, "score_threshold": 0.001}
    options = {"region_width": 32} | parts.pop("detectron2", {})
    spec = DetectorSpec(
        architecture=architecture, backbone="resnet50", layout="detectron2", detectron2=options, **given | parts
    )
    torch.manual_seed(0)
    return build_detector(spec)


def batch() -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2
    images[0, 0, 20:44, 12:36] = 1
    boxes = [torch.tensor([[12.0, 20, 36, 44]]), torch.zeros(0, 4)]
    return images, [{"boxes": b, "labels": torch.zeros(len(b), dtype=torch.int64)} for b in boxes]


def test_anchors_sit_on_the_grid_and_are_not_rounded():
    anchors = Anchors([[32]], [[0.5, 1.0]], [8], offset=0.0)
    (boxes,) = anchors([torch.zeros(1, 1, 2, 3)])

    width, height = 32 * 2**0.5, 32 / 2**0.5  # a ratio of 0.5 is twice as wide as high
    assert anchors.per_place == 2
    assert boxes.shape == (2 * 3 * 2, 4)
    assert boxes[0].tolist() == pytest.approx([-width / 2, -height / 2, width / 2, height / 2])
    assert boxes[1].tolist() == [-16, -16, 16, 16]
    assert boxes[3].tolist() == [-8, -16, 24, 16]  # a column further right
    assert boxes[7].tolist() == [-16, -8, 16, 24]  # a row further down


def test_matching_by_hand():
    truth = torch.tensor([[0.0, 0, 10, 10], [100, 100, 110, 110]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 4.7], [0, 0, 10, 2], [104, 100, 114, 110]])
    matched, verdict = match(truth, boxes, 0.45, 0.5, low_quality=True)
    assert verdict.tolist() == [1, 1, -1, 0, 1]
    assert matched[[0, 1, 4]].tolist() == [0, 0, 1]

    # 6 of 14 columns overlap: 0.43, too little but for being the best that the second box has.
    assert match(truth, boxes, 0.45, 0.5, low_quality=False)[1][4] == 0
    assert match(truth[:0], boxes, 0.45, 0.5, low_quality=True)[1].tolist() == [0] * 5


def test_a_sample_has_its_share_of_foreground_and_is_filled_with_background():
    verdict = torch.tensor([1] * 6 + [0] * 20 + [-1] * 4)
    foreground, background = sample(verdict, 12, 0.25)
    assert (len(foreground), len(background)) == (3, 9)
    assert (verdict[foreground] == 1).all()
    assert (verdict[background] == 0).all()

    few = sample(torch.tensor([1, 0, 0, -1]), 12, 0.25)
    assert sorted(torch.cat(few).tolist()) == [0, 1, 2]


def test_box_losses_by_hand():
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    truth = torch.tensor([[5.0, 0, 15, 10], [0, 0, 10, 10]])  # half a width to the right: dx = 0.5
    nothing = torch.zeros(2, 4)

    assert float(box_loss("l1", 0, coder, nothing, anchors, truth)) == pytest.approx(0.5)
    assert float(box_loss("l1", 1, coder, nothing, anchors, truth)) == pytest.approx(0.125)
    # IoU 5/15 and a hull without gaps: 1 - 1/3.
    assert float(box_loss("giou", 0, coder, nothing, anchors, truth)) == pytest.approx(2 / 3, abs=1e-5)


def test_regions_are_pooled_from_the_level_of_their_size_in_their_order():
    levels = [torch.full((2, 1, 128 // 2**n, 128 // 2**n), float(n)) for n in range(4)]
    levels = [level + torch.tensor([0.0, 10.0]).view(2, 1, 1, 1) for level in levels]
    # Sides 448, 224, 112 and 20 belong to P5, P4, P3 and P2; P2's stride is 4.
    first = torch.tensor([[0.0, 0, 448, 448], [10, 10, 30, 30], [0, 0, 224, 224]])
    second = torch.tensor([[0.0, 0, 112, 112]])
    pooled = pool_regions(levels, [first, second], pixels=2, sampling=0)

    assert pooled.shape == (4, 1, 2, 2)
    assert pooled[:, 0, 0, 0].tolist() == pytest.approx([3, 0, 2, 11])


def test_the_running_mean_of_foreground_anchors():
    detector = small("retinanet").train()
    images, targets = batch()
    detector(images[1:], targets[1:])
    # No foreground counts as one: 0.9 * 100 + 0.1 * 1.
    assert float(detector.network.loss_normaliser) == pytest.approx(90.1)
    detector(images[1:], targets[1:])
    assert float(detector.network.loss_normaliser) == pytest.approx(0.9 * 90.1 + 0.1)
    assert "network.loss_normaliser" in detector.state_dict()


@pytest.mark.parametrize("architecture", ["retinanet", "faster_rcnn"])
def test_a_network_of_the_layout_can_be_learned_from(architecture: str):
    detector = small(architecture).train()
    images, targets = batch()
    losses = detector(images, targets)
    sum(losses.values()).backward()

    assert len(losses) == (2 if architecture == "retinanet" else 4)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in detector.parameters())
    with torch.no_grad():
        found = detector.eval()(images)
    for one in found:
        assert one["boxes"].shape == (len(one["scores"]), 4)
        assert (one["labels"] == 0).all()
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= 64).all()


def test_frozen_stages_do_not_learn():
    bottom_up = small("retinanet", frozen_stages=2).network.backbone.bottom_up

    learns = {name: any(p.requires_grad for p in part.parameters()) for name, part in bottom_up.named_children()}
    assert learns == {"stem": False, "res2": False, "res3": True, "res4": True, "res5": True}


def caffe2_weights() -> dict[str, np.ndarray]:
    """Weights by the names of MSRA's R-50.pkl, each tensor filled with a number of its own."""
    bottom_up = small("retinanet", detectron2={"backbone_norm": "frozen_batch"}).network.backbone.bottom_up
    parts = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
    weights: dict[str, np.ndarray] = {"fc1000_w": np.zeros((1000, 2048), np.float32)}
    for number, (name, value) in enumerate(bottom_up.state_dict().items()):
        *where, kind = name.replace(".norm.", ".bn_").split(".")
        if "running" in kind:
            continue
        kind = {"weight": "w", "bn_weight": "bn_s", "bn_bias": "bn_b"}[kind]
        if where == ["stem", "conv1"]:
            key = "conv1_w" if kind == "w" else f"res_conv1_{kind}"
        else:
            stage, block, part = where
            key = f"{stage}_{block}_{parts[part]}_{kind}"
        weights[key] = np.full(value.shape, number + 1, np.float32)
    return weights


def test_msras_weights_find_their_places(tmp_path: Path):
    weights = caffe2_weights()
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(weights, protocol=2))
    bottom_up = small("retinanet", weights=tmp_path / "R-50.pkl").network.backbone.bottom_up
    state = bottom_up.state_dict()

    assert float(state["stem.conv1.weight"][0, 0, 0, 0]) == weights["conv1_w"][0, 0, 0, 0]
    assert float(state["stem.conv1.norm.bias"][0]) == weights["res_conv1_bn_b"][0]
    assert float(state["res4.0.shortcut.weight"][0, 0, 0, 0]) == weights["res4_0_branch1_w"][0, 0, 0, 0]
    assert float(state["res5.2.conv3.norm.weight"][0]) == weights["res5_2_branch2c_bn_s"][0]
    # No statistics: the norm is weight and bias alone.
    norm = bottom_up.stem.conv1.norm
    through = norm(torch.ones(1, 64, 1, 1))[0, 0, 0, 0]
    assert float(through) == pytest.approx(float(norm.weight[0] + norm.bias[0]))

    del weights["res3_1_branch2b_w"]
    (tmp_path / "part.pkl").write_bytes(pickle.dumps(weights))
    with pytest.raises(WeightsError, match=r"1 of its tensors .* res3.1.conv2.weight"):
        small("retinanet", weights=tmp_path / "part.pkl")


def test_torchvisions_weights_find_their_places(tmp_path: Path):
    from torchvision.models import resnet50

    torch.manual_seed(1)
    theirs = resnet50(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    options = {"stride_in_1x1": False, "pixel_mean": (0, 0, 0), "pixel_std": (255, 255, 255)}
    detector = small("retinanet", weights=tmp_path / "resnet50.pth", detectron2=options)
    image = torch.rand(1, 1, 64, 64)
    theirs.eval()
    with torch.no_grad():
        ours = detector.network.backbone.bottom_up(image.expand(-1, 3, -1, -1))["res5"]
        stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image.expand(-1, 3, -1, -1)))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem))))

    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
