"""Anchors, matching, sampling and box losses as Detectron2 counts them.

Features of regions, from the pyramid's level that fits each region's size.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou, generalized_box_iou_loss, roi_align

IGNORED, BACKGROUND, FOREGROUND = -1, 0, 1


class Anchors(nn.Module):
    """Anchors of every level; sides are real numbers, not rounded to pixels.

    Parameters
    ----------
    sizes, ratios
        Per level: square roots of areas in input pixels, and heights over widths.
    strides
        Per level, in input pixels.
    offset
        Of the first anchor's centre from the corner, as a part of the stride.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[Sequence[float]],
        strides: Sequence[int],
        offset: float,
    ) -> None:
        super().__init__()
        self._strides = tuple(strides)
        self._offset = offset
        self.cells = [_cell(*level) for level in zip(sizes, ratios, strict=True)]

    @property
    def per_place(self) -> int:
        """How many anchors share a centre."""
        return len(self.cells[0])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Per level, boxes (rows * columns * per place, 4)."""
        return [
            self._level(cell.to(level.device), stride, int(level.shape[-2]), int(level.shape[-1]))
            for cell, stride, level in zip(self.cells, self._strides, maps, strict=True)
        ]

    def _level(self, cell: Tensor, stride: int, rows: int, columns: int) -> Tensor:
        y, x = torch.meshgrid(
            (torch.arange(rows, device=cell.device) + self._offset) * stride,
            (torch.arange(columns, device=cell.device) + self._offset) * stride,
            indexing="ij",
        )
        centres = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)
        return (centres + cell).reshape(-1, 4)


def _cell(sizes: Iterable[float], ratios: Iterable[float]) -> Tensor:
    sides = [(size / math.sqrt(ratio), size * math.sqrt(ratio)) for size in sizes for ratio in ratios]
    return torch.tensor([(-width / 2, -height / 2, width / 2, height / 2) for width, height in sides])


def by_anchor(predicted: Tensor, numbers: int) -> Tensor:
    """From (n, anchors * numbers, rows, columns) to (n, rows * columns * anchors, numbers)."""
    images, _, rows, columns = predicted.shape
    split = predicted.view(images, -1, numbers, rows, columns)
    return split.permute(0, 3, 4, 1, 2).reshape(images, -1, numbers)


def match(truth: Tensor, boxes: Tensor, low: float, high: float, *, low_quality: bool) -> tuple[Tensor, Tensor]:
    """Which true box each box belongs to, and whether it counts.

    Parameters
    ----------
    truth, boxes
        Shapes (k, 4) and (n, 4).
    low, high
        IoU below the first is background, from the second on foreground, ignored between.
    low_quality
        Whether each true box keeps its best boxes, however little they overlap.

    Returns
    -------
    tuple
        Indices of true boxes (n,), and (n,) of `IGNORED`, `BACKGROUND`, `FOREGROUND`.
    """
    if not len(truth):
        return torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device), torch.full(
            (len(boxes),), BACKGROUND, device=boxes.device
        )
    overlaps = box_iou(truth, boxes)
    matched = Matcher(high, low, allow_low_quality_matches=low_quality)(overlaps)
    verdict = torch.full_like(matched, FOREGROUND)
    verdict[matched == Matcher.BELOW_LOW_THRESHOLD] = BACKGROUND
    verdict[matched == Matcher.BETWEEN_THRESHOLDS] = IGNORED
    return matched.clamp(min=0), verdict


def sample(verdict: Tensor, size: int, positive: float) -> tuple[Tensor, Tensor]:
    """Draw foreground and background at random, foreground at most that part of the sample; their indices."""
    foreground, background = (torch.where(verdict == kind)[0] for kind in (FOREGROUND, BACKGROUND))
    kept = min(len(foreground), int(size * positive))
    rest = min(len(background), size - kept)
    # Foreground first: with the same state of the generator the same boxes are drawn as in Detectron2.
    foreground = foreground[torch.randperm(len(foreground), device=verdict.device)[:kept]]
    return foreground, background[torch.randperm(len(background), device=verdict.device)[:rest]]


def box_loss(kind: str, beta: float, coder: BoxCoder, predicted: Tensor, anchors: Tensor, truth: Tensor) -> Tensor:
    """The sum over boxes of ``"l1"`` (smooth below ``beta``, in units of the coder) or ``"giou"``.

    Parameters
    ----------
    predicted
        Encoded, shape (n, 4), as are ``anchors`` and ``truth`` as boxes.
    """
    if kind == "giou":
        loss: Tensor = generalized_box_iou_loss(decode(coder, predicted, anchors), truth, reduction="sum")
        return loss
    encoded = coder.encode_single(truth, anchors)
    if beta == 0:
        return functional.l1_loss(predicted, encoded, reduction="sum")
    return functional.smooth_l1_loss(predicted, encoded, reduction="sum", beta=beta)


def decode(coder: BoxCoder, predicted: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (n, 4 * k) from what was predicted for anchors (n, 4), in single precision."""
    decoded: Tensor = coder.decode_single(predicted.float(), anchors.float())
    return decoded


_FINEST = 2
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224, 4


def pool_regions(levels: list[Tensor], regions: list[Tensor], pixels: int, sampling: int) -> Tensor:
    """Features (regions, channels, pixels, pixels) in the order of the regions.

    Parameters
    ----------
    levels
        Maps of P2 and up.
    regions
        Per image, boxes (n, 4) in input pixels.
    sampling
        Samples per pooled pixel and axis; 0 for as many as the region is large.
    """
    boxes = torch.cat(regions)
    images = torch.cat([torch.full_like(found[:, :1], number) for number, found in enumerate(regions)])
    level_of = _level_of(boxes, len(levels))
    rows = torch.cat([images, boxes], dim=1)
    pooled, places = [], []
    for number, level in enumerate(levels):
        chosen = torch.where(level_of == number)[0]
        scale = 1 / 2 ** (number + _FINEST)
        pooled.append(roi_align(level.float(), rows[chosen], pixels, scale, sampling, aligned=True))
        places.append(chosen)
    # Sorting by place puts the regions back in order; unlike writing into a tensor, ONNX can express it.
    return torch.cat(pooled)[torch.cat(places).argsort()]


def _level_of(boxes: Tensor, levels: int) -> Tensor:
    """Equation 1 of the pyramid's paper, as an index from the finest level."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(area.sqrt() / _CANONICAL_SIDE + 1e-8))
    return level.clamp(_FINEST, _FINEST + levels - 1).to(torch.int64) - _FINEST
