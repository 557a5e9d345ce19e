"""Two losses for RetinaNet: one of classes, one of boxes."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import distance_box_iou_loss


def quality_focal(logits: Tensor, is_class: Tensor, quality: Tensor) -> Tensor:
    """Quality focal loss (Li et al. 2020): a score learns the overlap of its box with the mass.

    Parameters
    ----------
    logits
        Shape (b, n, classes).
    is_class
        Of the same shape, ``bool``.
    quality
        Shape (b, n), from 0 to 1.
    """
    goal = torch.where(is_class, quality[..., None], 0.0)
    missed = (goal - logits.sigmoid()).abs().square()
    return missed * binary_cross_entropy_with_logits(logits, goal, reduction="none")


def distance_iou(boxes: Tensor, truth: Tensor) -> Tensor:
    """Distance IoU loss (Zheng et al. 2020) of boxes (..., 4) and true boxes, to losses (...)."""
    return distance_box_iou_loss(boxes.reshape(-1, 4), truth.reshape(-1, 4)).reshape(boxes.shape[:-1])
