"""Detectors with shuffled weights: what an explanation of a detector that has learned nothing looks like."""

import copy
from enum import StrEnum

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from mammoscope.detectors.build import MassDetector

_ALL = 1_000_000


class Part(StrEnum):
    """What is shuffled, from the top of the network down; each holds those before it."""

    HEAD = "head"
    PYRAMID = "head and pyramid"
    ALL = "head, pyramid and backbone"


def shuffled(detector: MassDetector, part: Part, seed: int = 0) -> MassDetector:
    """A copy whose weights are shuffled within each of their tensors, from the top down (Adebayo et al. 2018).

    Shuffled rather than drawn anew, so that every layer's values keep their size. The copy proposes all its
    candidates, however unlikely: it has no detections worth the name, but whatever it says at a place can be explained.
    """
    changed = copy.deepcopy(detector)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in _modules(changed, part):
            for weights in module.parameters():
                order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
                weights.copy_(weights.flatten()[order].view_as(weights))
    _propose_everything(changed)
    return changed


def _modules(detector: MassDetector, part: Part) -> list[nn.Module]:
    network = detector.network
    head: list[nn.Module] = [network.rpn, network.roi_heads] if isinstance(network, FasterRCNN) else [network.head]
    pyramid, body = network.backbone.fpn, network.backbone.body
    return {Part.HEAD: head, Part.PYRAMID: [*head, pyramid], Part.ALL: [*head, pyramid, body]}[part]


def _propose_everything(detector: MassDetector) -> None:
    network = detector.network
    if isinstance(network, FasterRCNN):
        network.roi_heads.score_thresh, network.roi_heads.nms_thresh = 0.0, 1.0
        network.roi_heads.detections_per_img = _ALL
    else:
        network.propose_everything()
