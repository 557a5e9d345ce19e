"""A heat map of one detection from gradients, after ODAM (Zhao and Chan 2023).

Where hiding parts asks the finished model hundreds of times, this looks inside once: at the feature pyramid's maps and
at how the detection's score would change with each of their values.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou
from torchvision.transforms.functional import gaussian_blur

from mammoscope.detectors.build import MassDetector
from mammoscope.explain import ExplainError, HeatMap
from mammoscope.findings import Finding
from mammoscope.imaging import InputGeometry, Mammogram, PreparedImage, prepare

_SMOOTHING = 0.25
"""Standard deviation of the smoothing of the gradients over the side of the detection's box."""


def gradient_maps(
    detector: MassDetector, geometry: InputGeometry, mammogram: Mammogram, findings: Sequence[Finding]
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
        If the detector proposes nothing where a finding is.
    """
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
