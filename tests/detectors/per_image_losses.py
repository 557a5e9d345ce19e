"""Per-image RetinaNet losses as they were before they were batched: what `mammoscope.detectors.losses` must equal."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou, generalized_box_iou_loss, sigmoid_focal_loss


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


def _iou_of_pairs(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of the first with the first, the second with the second: (n, 4) and (n, 4) to (n,)."""
    corner = torch.maximum(boxes[:, :2], others[:, :2])
    opposite = torch.minimum(boxes[:, 2:], others[:, 2:])
    shared = (opposite - corner).clamp(min=0).prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (others[:, 2:] - others[:, :2]).prod(dim=1)
    return shared / (areas - shared).clamp(min=1e-6)


def _varifocal_loss(logits: Tensor, goal: Tensor, alpha: float = 0.75, gamma: float = 2.0) -> Tensor:
    """Cross entropy weighted by the goal where there is a mass, by alpha p^gamma where there is none; the sum."""
    weight = torch.where(goal > 0, goal, alpha * logits.detach().sigmoid() ** gamma)
    return binary_cross_entropy_with_logits(logits, goal, weight, reduction="sum")


def per_image_losses(targets, logits, regression, anchors, levels, per_position, matching, class_loss, box_loss, coder):
    """Both losses by a loop over the images of a batch."""
    class_losses, box_losses = [], []
    for target, one_logits, one_regression in zip(targets, logits, regression, strict=True):
        assigned = _assigned(target["boxes"], anchors, levels, per_position, matching)
        positive = torch.where(assigned >= 0)[0]
        truth = target["boxes"][assigned[positive]]
        count = max(1, len(positive))
        used = assigned != -2
        goal = torch.zeros_like(one_logits)
        labels = target["labels"][assigned[positive]]
        boxes = coder.decode_single(one_regression[positive], anchors[positive])
        if box_loss == "l1":
            encoded = coder.encode_single(truth, anchors[positive])
            one_box_loss = torch.nn.functional.l1_loss(one_regression[positive], encoded, reduction="sum")
        else:
            one_box_loss = generalized_box_iou_loss(boxes, truth, reduction="sum")
        if class_loss == "varifocal":
            goal[positive, labels] = _iou_of_pairs(boxes.detach(), truth)
            one_class_loss = _varifocal_loss(one_logits[used], goal[used])
            one_box_loss = 2.0 * one_box_loss
        else:
            goal[positive, labels] = 1.0
            one_class_loss = sigmoid_focal_loss(one_logits[used], goal[used], reduction="sum")
        class_losses.append(one_class_loss / count)
        box_losses.append(one_box_loss / count)
    return {"classification": torch.stack(class_losses).mean(), "bbox_regression": torch.stack(box_losses).mean()}


def _assigned(truth, anchors, levels, per_position, matching):
    if not len(truth):
        return torch.full((len(anchors),), -1)
    if matching == "atss":
        return atss_assignment(truth, anchors, levels, per_position, 9)
    return Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(truth, anchors))
