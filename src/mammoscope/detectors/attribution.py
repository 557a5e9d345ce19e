"""A heat map of one detection from gradients, after ODAM (Zhao and Chan 2023).

Where hiding parts asks the finished model hundreds of times, this looks inside once: at the feature pyramid's maps and
at how the detection's score would change with each of their values.

Detectors with shuffled weights: what an explanation of a detector that has learned nothing looks like.
"""

import copy
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import FasterRCNN
from torchvision.ops import box_iou
from torchvision.transforms.functional import gaussian_blur

from mammoscope.detectors.factory import MassDetector, build_detector
from mammoscope.detectors.retinanet import AdaptiveRetinaNet
from mammoscope.detectors.spec import Layout
from mammoscope.explain import ExplainError, HeatMap
from mammoscope.findings import Finding
from mammoscope.imaging import Mammogram, PreparedImage, Preprocessing, prepare

_SMOOTHING = 0.25
"""Standard deviation of the smoothing of the gradients over the side of the detection's box."""


def gradient_maps(
    detector: MassDetector, geometry: Preprocessing, mammogram: Mammogram, findings: Sequence[Finding]
) -> list[HeatMap]:
    """A heat map for each finding of a mammogram: gradient times feature, summed over channels, where positive.

    Each value of a feature map is weighted by the smoothed gradient of the detection's score there, so the map is of
    that one detection; with one weight per channel, as in Grad-CAM, it would be of all masses alike. Levels of the
    pyramid are enlarged to the input's size and added; the highest value becomes 1.

    Parameters
    ----------
    detector
        In evaluation mode.
    geometry
        Its input.
    findings
        In pixels of the mammogram's file. Each is explained by the detection most like it (intersection over union
        times score).

    Raises
    ------
    ExplainError
        If the detector proposes nothing where a finding is, or is one of another package.
    """
    if detector.spec.is_own:
        raise ExplainError(
            f"the gradient method does not know how {detector.spec.architecture} is built: use the method drise, which "
            "needs no look inside"
        )
    prepared = prepare(mammogram, geometry)
    device = next(detector.parameters()).device
    levels: dict[str, Tensor] = {}

    def keep(_module: Any, _inputs: Any, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        # As leaves: gradients need not go back through the backbone.
        levels.update({name: level.detach().requires_grad_() for name, level in maps.items()})
        return levels

    backbone = detector.network.get_submodule("backbone")
    hook = backbone.register_forward_hook(keep)
    with torch.enable_grad():
        try:
            found = detector(torch.from_numpy(prepared.pixels)[None, None].to(device))[0]
        finally:
            hook.remove()
        return [_map_of(finding, found, levels, detector, prepared) for finding in findings]


def _map_of(
    finding: Finding,
    found: dict[str, Tensor],
    levels: dict[str, Tensor],
    detector: MassDetector,
    prepared: PreparedImage,
) -> HeatMap:
    box = torch.from_numpy(prepared.placement.to_picture(np.array([finding.box.as_tuple()]))).to(found["boxes"])
    alike = box_iou(box, found["boxes"].detach())[0] * found["scores"].detach()
    alike = alike * (found["labels"] == detector.spec.classes.index(finding.label))
    if not alike.numel() or alike.max() <= 0:
        raise ExplainError(
            f"the detector proposes no {finding.label} where that finding is: explain findings of the same run"
        )
    score = found["scores"][int(alike.argmax())]
    gradients = torch.autograd.grad(score, list(levels.values()), retain_graph=True, allow_unused=True)
    shape = prepared.pixels.shape
    sides = (box[0, 3] - box[0, 1]).item(), (box[0, 2] - box[0, 0]).item()
    total = np.zeros(shape, np.float32)
    for level, gradient in zip(levels.values(), gradients, strict=True):
        if gradient is not None:
            total += _enlarged(_weighted(level.detach(), gradient, shape, sides), shape)
    peak = float(total.max())
    values = total / peak if peak > 0 else total
    return HeatMap(values, prepared.placement, "gradient (ODAM)", "share of the highest value")


def _weighted(level: Tensor, gradient: Tensor, shape: tuple[int, ...], sides: tuple[float, float]) -> Tensor:
    """Shape (1, 1, rows, columns) of that level; smoothed over a part of the box, seen at the level's scale."""
    sigmas = [
        max(_SMOOTHING * side * size / whole, 1e-3)
        for side, size, whole in zip(sides, level.shape[2:], shape, strict=True)
    ]
    # The kernel reaches three deviations, but no padding can be longer than the map.
    kernel = [
        min(2 * int(np.ceil(3 * sigma)) + 1, 2 * size - 1) for sigma, size in zip(sigmas, level.shape[2:], strict=True)
    ]
    smooth: Tensor = gaussian_blur(gradient, kernel[::-1], sigmas[::-1])
    return (smooth * level).sum(dim=1, keepdim=True).clamp(min=0)


def _enlarged(values: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    enlarged: NDArray[np.float32] = functional.interpolate(values, shape, mode="bilinear")[0, 0].cpu().numpy()
    return enlarged


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
        rebuilt = build_detector(spec.model_copy(update=unlimited), load_weights=False)
        rebuilt.load_state_dict(detector.state_dict())
        return rebuilt.train(detector.training).to(next(detector.parameters()).device)
    if isinstance(network, AdaptiveRetinaNet):
        network.propose_everything()
    elif isinstance(network, FasterRCNN):
        network.roi_heads.score_thresh, network.roi_heads.nms_thresh = 0.0, 1.0
        network.roi_heads.detections_per_img = _ALL
    return detector
