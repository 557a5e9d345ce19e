"""Shuffled weights: which, in networks of both layouts, and that everything is then proposed."""

import pytest
import torch

from mammoscope.detectors import DetectorSpec, Part, build_detector, shuffled

SMALL = {"weights": "none", "frozen_stages": 0, "fpn_channels": 32, "score_threshold": 0.9, "max_detections": 3}
BACKBONES = {"torchvision": ("tf_efficientnet_lite0", ".body."), "detectron2": ("resnet50", ".bottom_up.")}


@pytest.mark.parametrize("architecture", ["retinanet", "faster_rcnn"])
@pytest.mark.parametrize("layout", ["torchvision", "detectron2"])
def test_shuffling_goes_from_the_head_down(architecture: str, layout: str):
    backbone, body = BACKBONES[layout]
    torch.manual_seed(0)
    spec = DetectorSpec(architecture=architecture, layout=layout, backbone=backbone, **SMALL)
    detector = build_detector(spec).eval()
    before = {name: tensor.clone() for name, tensor in detector.named_parameters()}

    def moved(part: Part) -> set[str]:
        changed = dict(shuffled(detector, part).named_parameters())
        for name, tensor in before.items():  # the same values, in another order
            assert torch.equal(changed[name].flatten().sort()[0], tensor.flatten().sort()[0]), name
        return {name for name, tensor in before.items() if not torch.equal(changed[name], tensor)}

    head, pyramid, everything = (moved(part) for part in Part)
    assert head
    assert not any(".backbone." in name for name in head)
    assert head < pyramid < everything
    assert not any(body in name for name in pyramid)
    assert all(".backbone." in name for name in pyramid - head)
    assert all(body in name for name in everything - pyramid)
    for name, tensor in detector.named_parameters():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("architecture", ["retinanet", "faster_rcnn"])
@pytest.mark.parametrize("layout", ["torchvision", "detectron2"])
def test_a_shuffled_detector_proposes_everything(architecture: str, layout: str):
    torch.manual_seed(0)
    spec = DetectorSpec(architecture=architecture, layout=layout, backbone=BACKBONES[layout][0], **SMALL)
    detector = build_detector(spec).eval()
    image = torch.rand(1, 1, 64, 64)

    with torch.no_grad():
        assert len(detector(image)[0]["scores"]) <= 3
        found = shuffled(detector, Part.HEAD)(image)[0]

    # 9 anchors at each of 64 + 16 + 4 + 1 + 1 places; of Faster R-CNN, as many regions as survive the first stage.
    assert len(found["scores"]) > (700 if architecture == "retinanet" else 20)
