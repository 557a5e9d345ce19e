"""Features of regions, from the pyramid's level that fits each region's size."""

import torch
from torch import Tensor
from torchvision.ops import roi_align

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
