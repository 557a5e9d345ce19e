"""RetinaNet (Lin et al. 2017) with the ways of learning and of merging boxes that came after it.

Which anchors learn which mass.
"""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection import RetinaNet
from torchvision.ops import batched_nms, box_iou, generalized_box_iou_loss, sigmoid_focal_loss


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


_NEAREST = 9
"""Anchor positions considered at each level for a mass; the ATSS paper found 7 to 17 alike."""
_BOX_WEIGHT = 2.0
"""Of the box loss beside varifocal loss, as in VarifocalNet."""


class AdaptiveRetinaNet(RetinaNet):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RetinaNet with a choice of assignment, of classification loss and of voted boxes.

    Parameters
    ----------
    matching
        ``"iou"``: torchvision's thresholds of 0.4 and 0.5; ``"atss"``: adaptive (Zhang et al. 2020).
    class_loss
        ``"focal"``; ``"varifocal"`` (Zhang et al. 2021): a score learns how well its box fits.
    level_sizes
        How many positions each level of the pyramid has; they tell the levels' anchors apart.
    nms_iou, max_detections
        Of two detections that overlap more, the one with the lower score goes; so many are left.
    vote_iou
        Boxes that overlap a kept one by this much move it to their mean, weighted by score (Gidaris and Komodakis
        2015); ``None`` keeps boxes as they are.
    """

    topk_candidates: int

    def __init__(
        self,
        *arguments: Any,
        matching: str,
        class_loss: str,
        level_sizes: list[int],
        nms_iou: float,
        max_detections: int,
        vote_iou: float | None,
        **keywords: Any,
    ) -> None:
        # Voting needs the candidates that suppression drops: torchvision's own is switched off by a threshold of 1.
        super().__init__(*arguments, nms_thresh=1.0, **keywords)
        self.detections_per_img = len(self.anchor_generator.sizes) * self.topk_candidates
        self._nms_iou = nms_iou
        self._max_detections = max_detections
        self._matching = matching
        self._class_loss = class_loss
        self._level_sizes = level_sizes
        self._vote_iou = vote_iou

    def propose_everything(self) -> None:
        """From now on return every anchor's box as it is, however unlikely and however many overlap."""
        self.score_thresh, self._nms_iou, self._vote_iou = 0.0, 1.0, None
        self.topk_candidates = self.detections_per_img = self._max_detections = sys.maxsize

    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """The losses ``classification`` and ``bbox_regression``, each averaged over the batch's images."""
        if self._matching == "iou" and self._class_loss == "focal":
            losses: dict[str, Tensor] = super().compute_loss(targets, head_outputs, anchors)
            return losses
        class_losses, box_losses = [], []
        per_image = zip(targets, head_outputs["cls_logits"], head_outputs["bbox_regression"], anchors, strict=True)
        for target, logits, regression, boxes in per_image:
            assigned = self._assign(target["boxes"], boxes)
            class_loss, box_loss = self._losses(target, logits, regression, boxes, assigned)
            class_losses.append(class_loss)
            box_losses.append(box_loss)
        return {
            "classification": torch.stack(class_losses).mean(),
            "bbox_regression": torch.stack(box_losses).mean(),
        }

    def _assign(self, truth: Tensor, anchors: Tensor) -> Tensor:
        """Per anchor the index of its box, -1 for background, -2 for neither."""
        if not len(truth):
            return torch.full((len(anchors),), -1, device=anchors.device)
        if self._matching == "atss":
            per_position = self.anchor_generator.num_anchors_per_location()[0]
            levels = [size * per_position for size in self._level_sizes]
            return atss_assignment(truth, anchors, levels, per_position, _NEAREST)
        assigned: Tensor = self.proposal_matcher(box_iou(truth, anchors))
        return assigned

    def _losses(
        self, target: dict[str, Tensor], logits: Tensor, regression: Tensor, anchors: Tensor, assigned: Tensor
    ) -> tuple[Tensor, Tensor]:
        positive = torch.where(assigned >= 0)[0]
        truth = target["boxes"][assigned[positive]]
        boxes = self.box_coder.decode_single(regression[positive], anchors[positive])
        count = max(1, len(positive))
        used = assigned != -2
        goal = torch.zeros_like(logits)
        labels = target["labels"][assigned[positive]]
        if self._class_loss == "varifocal":
            quality = _iou_of_pairs(boxes.detach(), truth)
            goal[positive, labels] = quality
            class_loss = _varifocal_loss(logits[used], goal[used])
            box_loss = _BOX_WEIGHT * generalized_box_iou_loss(boxes, truth, reduction="sum")
        else:
            goal[positive, labels] = 1.0
            class_loss = sigmoid_focal_loss(logits[used], goal[used], reduction="sum")
            box_loss = generalized_box_iou_loss(boxes, truth, reduction="sum")
        return class_loss / count, box_loss / count

    def postprocess_detections(
        self,
        head_outputs: dict[str, list[Tensor]],
        anchors: list[list[Tensor]],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections per image, by falling score."""
        found = super().postprocess_detections(head_outputs, anchors, image_shapes)
        return [self._suppress(candidates) for candidates in found]

    def _suppress(self, candidates: dict[str, Tensor]) -> dict[str, Tensor]:
        boxes, scores, labels = candidates["boxes"], candidates["scores"], candidates["labels"]
        keep = batched_nms(boxes, scores, labels, self._nms_iou)[: self._max_detections]
        kept = boxes[keep]
        if self._vote_iou is not None:
            same = (box_iou(kept, boxes) >= self._vote_iou) & (labels[keep][:, None] == labels[None])
            weights = same * scores[None]
            kept = weights @ boxes / weights.sum(dim=1, keepdim=True)
        return {"boxes": kept, "scores": scores[keep], "labels": labels[keep]}


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
