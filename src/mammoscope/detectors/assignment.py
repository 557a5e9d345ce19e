"""Which anchors learn which mass."""

import torch
from torch import Tensor
from torchvision.ops import box_iou


def atss_assignment(truth: Tensor, anchors: Tensor, levels: list[int], per_position: int, nearest: int) -> Tensor:
    """Adaptive training sample selection (Zhang et al. 2020, algorithm 1).

    Of each level the anchors at the positions nearest to a mass are candidates; those whose overlap reaches the mean
    plus the standard deviation of all candidates' overlaps, and whose centre lies in the mass, learn it. No threshold
    has to fit all sizes.

    Parameters
    ----------
    truth
        Shape (k, 4), k >= 1.
    anchors
        Shape (n, 4), level after level, position after position.
    levels
        How many anchors each level has; their sum is n.
    per_position
        Anchors of different shapes at each position.
    nearest
        Positions considered at each level.

    Returns
    -------
    Tensor
        Shape (n,): the index of the box an anchor learns, or -1.
    """
    overlap = box_iou(truth, anchors)
    candidates = _nearest_anchors(truth, anchors, levels, per_position * nearest)
    overlaps = overlap.gather(1, candidates)
    threshold = overlaps.mean(dim=1, keepdim=True) + overlaps.std(dim=1, keepdim=True)
    centres = _centres(anchors)[candidates]
    inside = ((centres > truth[:, None, :2]) & (centres < truth[:, None, 2:])).all(dim=2)
    chosen = torch.full_like(overlap, -1.0)
    chosen.scatter_(1, candidates, torch.where((overlaps >= threshold) & inside, overlaps, -1.0))
    # An anchor that suits two masses learns the one it overlaps more.
    best, assigned = chosen.max(dim=0)
    return torch.where(best >= 0, assigned, -1)


def _nearest_anchors(truth: Tensor, anchors: Tensor, levels: list[int], count: int) -> Tensor:
    distances = torch.cdist(_centres(truth), _centres(anchors))
    found, start = [], 0
    for size in levels:
        _, nearest = distances[:, start : start + size].topk(min(count, size), dim=1, largest=False)
        found.append(nearest + start)
        start += size
    return torch.cat(found, dim=1)


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
