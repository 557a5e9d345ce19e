"""Detectors with shuffled weights: what an explanation of a detector that has learned nothing looks like."""

import copy
import sys
from enum import StrEnum
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from mammoscope.detectors.build import MassDetector, build_detector
from mammoscope.detectors.retinanet import AdaptiveRetinaNet
from mammoscope.detectors.spec import Layout

_ALL = sys.maxsize
_HEADS = ("head", "rpn", "proposal_generator", "roi_heads")
_BODIES = ("body", "bottom_up")
"""By torchvision's and by Detectron2's names."""


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
    changed = _proposing_everything(copy.deepcopy(detector))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in _modules(changed, part):
            for weights in module.parameters():
                order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
                weights.copy_(weights.flatten()[order].view_as(weights))
    return changed


def _modules(detector: MassDetector, part: Part) -> list[nn.Module]:
    network: Any = detector.network
    head = [module for name, module in network.named_children() if name in _HEADS]
    body = next(module for name, module in network.backbone.named_children() if name in _BODIES)
    pyramid = [module for module in network.backbone.children() if module is not body]
    return {Part.HEAD: head, Part.PYRAMID: [*head, *pyramid], Part.ALL: [*head, *pyramid, body]}[part]


def _proposing_everything(detector: MassDetector) -> MassDetector:
    network, spec = detector.network, detector.spec
    if spec.layout is Layout.DETECTRON2:
        # Its parts read the spec as they go, so they are built anew; the copy skips the bounds of a recipe's values.
        options = spec.detectron2.model_copy(update={"candidates": _ALL})
        unlimited = {"score_threshold": 0.0, "nms_iou": 1.0, "max_detections": _ALL, "detectron2": options}
        rebuilt = build_detector(spec.model_copy(update=unlimited), 0, 0, load_weights=False)
        rebuilt.load_state_dict(detector.state_dict())
        return rebuilt.train(detector.training).to(next(detector.parameters()).device)
    if isinstance(network, AdaptiveRetinaNet):
        network.propose_everything()
    elif isinstance(network, FasterRCNN):
        network.roi_heads.score_thresh, network.roi_heads.nms_thresh = 0.0, 1.0
        network.roi_heads.detections_per_img = _ALL
    return detector
