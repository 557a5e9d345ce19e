"""RetinaNet's losses of a whole batch at once.

In: what the head says of every anchor of every image, and the truth padded to one number of boxes. Out: two losses. No
loop over images and no copy from device to host, so that a GPU is not kept waiting for the next kernel.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss
from torchvision.ops import sigmoid_focal_loss

from mammoscope.detectors.extensions import ExtensionError

ClassLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of logits (b, n, classes), which of them are an anchor's class (the same shape, ``bool``), and the IoU of its box
with its mass (b, n; zeros for anchors that learn none, and where ``box_loss`` is L1): losses (b, n, classes)."""
BoxLoss = Callable[[Tensor, Tensor], Tensor]
"""Of boxes and true boxes, pair by pair, both (..., 4) in pixels of the input: losses (...)."""

NEAREST = 9
"""Anchor positions considered at each level for a mass; the ATSS paper found 7 to 17 alike."""
_FOREGROUND_IOU, _BACKGROUND_IOU = 0.5, 0.4
"""An anchor between the two learns nothing (Lin et al. 2017)."""
_VARIFOCAL_BOX_WEIGHT = 2.0
"""Of the box loss beside varifocal loss, as in VarifocalNet."""
_EPSILON = 1e-7
_LARGEST_OFFSET = math.log(1000 / 16)
"""torchvision's and Detectron2's bound, beyond which a side would overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class SoftTruth:
    """What a teacher says of every anchor of the n that a student has.

    Parameters
    ----------
    scores
        Shape (b, n, classes), from 0 to 1.
    boxes
        Shape (b, n, 4), in pixels of the student's input.
    weight
        Of the losses beside the student's own.
    """

    scores: Tensor
    boxes: Tensor
    weight: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The boxes of a batch of b images, padded to k boxes an image.

    Parameters
    ----------
    boxes
        Shape (b, k, 4), k >= 1: x0, y0, x1, y1 in pixels of the input.
    labels
        Shape (b, k), class indices from 0.
    valid
        Shape (b, k), ``bool``: which of them are boxes and not padding.
    soft
        What a teacher says beside it; ``None`` without a teacher.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    soft: SoftTruth | None = None

    @classmethod
    def from_targets(cls, targets: Sequence[dict[str, Tensor]]) -> "Truth":
        """Of one dict an image with ``boxes`` (k, 4) and ``labels`` (k,)."""
        most = max(1, max((len(target["boxes"]) for target in targets), default=1))
        first = targets[0]["boxes"]
        # Padding has an area: no division by it may give NaN, not even where the result is masked.
        boxes = first.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(targets), most, 4).clone()
        labels = torch.zeros((len(targets), most), dtype=torch.int64, device=first.device)
        valid = torch.zeros((len(targets), most), dtype=torch.bool, device=first.device)
        for row, target in enumerate(targets):
            count = len(target["boxes"])
            boxes[row, :count] = target["boxes"]
            labels[row, :count] = target["labels"]
            valid[row, :count] = True
        return cls(boxes, labels, valid)

    def __len__(self) -> int:
        return len(self.boxes)

    def part(self, start: int, end: int) -> "Truth":
        """That of the images from ``start`` to before ``end``; nothing is copied."""
        return Truth(self.boxes[start:end], self.labels[start:end], self.valid[start:end], self.soft)

    def to(self, device: torch.device) -> "Truth":
        """The same on a device; a teacher speaks there."""
        boxes, labels, valid = (one.to(device, non_blocking=True) for one in (self.boxes, self.labels, self.valid))
        return Truth(boxes, labels, valid)

    def as_targets(self) -> list[dict[str, Tensor]]:
        """One dict an image, without padding; copies from device to host."""
        return [
            {"boxes": boxes[valid], "labels": labels[valid]}
            for boxes, labels, valid in zip(self.boxes, self.labels, self.valid, strict=True)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Which anchor learns which box.

    Parameters
    ----------
    box
        Shape (b, n): the index of the box an anchor learns, 0 where it learns none.
    positive
        Shape (b, n): which anchors learn a box.
    used
        Shape (b, n): which anchors learn at all, a box or that there is none; ``None`` for all.
    pool
        Shape (b, k, m): per box the anchors among which all that learn it are; ``None`` for all anchors.
    """

    box: Tensor
    positive: Tensor
    used: Tensor | None = None
    pool: Tensor | None = None


def assign_by_atss(
    truth: Truth, anchors: Tensor, levels: Sequence[int], per_position: int, nearest: int = NEAREST
) -> Assignment:
    """Adaptive training sample selection (Zhang et al. 2020, algorithm 1).

    Of each level the anchors at the positions nearest to a mass are candidates; those whose overlap reaches the mean
    plus the standard deviation of all candidates' overlaps, and whose centre lies in the mass, learn it. No threshold
    has to fit all sizes. An anchor that suits two masses learns the one it overlaps more.

    Parameters
    ----------
    anchors
        Shape (n, 4), level after level, position after position; those of a position have one centre.
    levels
        How many anchors each level has; their sum is n.
    per_position
        Anchors of different shapes at each position.
    nearest
        Positions considered at each level.
    """
    candidates = _nearest_anchors(truth.boxes, anchors, levels, per_position, nearest)
    chosen = anchors[candidates]
    overlaps = paired_iou(truth.boxes[:, :, None], chosen)
    threshold = overlaps.mean(dim=2, keepdim=True) + overlaps.std(dim=2, keepdim=True)
    centres = _centres(chosen)
    inside = ((centres > truth.boxes[:, :, None, :2]) & (centres < truth.boxes[:, :, None, 2:])).all(dim=3)
    suits = (overlaps >= threshold) & inside & truth.valid[:, :, None]
    per_anchor = overlaps.new_full((*truth.valid.shape, len(anchors)), -1.0)
    per_anchor.scatter_(2, candidates, torch.where(suits, overlaps, -1.0))
    best, box = per_anchor.max(dim=1)
    return Assignment(box, best >= 0, pool=candidates)


def _nearest_anchors(boxes: Tensor, anchors: Tensor, levels: Sequence[int], per_position: int, nearest: int) -> Tensor:
    """Shape (b, k, m): indices of the anchors at the positions nearest to each box, level after level."""
    positions = _centres(anchors[::per_position])
    distances = (_centres(boxes)[:, :, None] - positions).square().sum(dim=3)
    found, start = [], 0
    for level in torch.split(distances, [size // per_position for size in levels], dim=2):
        _, near = level.topk(min(nearest, level.shape[2]), dim=2, largest=False)
        found.append(near + start)
        start += level.shape[2]
    shapes = torch.arange(per_position, device=anchors.device)
    return (torch.cat(found, dim=2)[..., None] * per_position + shapes).flatten(2)


def assign_by_iou(truth: Truth, anchors: Tensor) -> Assignment:
    """Fixed thresholds (Lin et al. 2017): 0.5 and more learns the box, under 0.4 that there is none.

    The anchors that overlap a box most learn it however little that is.
    """
    overlaps = paired_iou(truth.boxes[:, :, None], anchors[None, None])
    overlaps = torch.where(truth.valid[:, :, None], overlaps, -1.0)
    best, box = overlaps.max(dim=1)
    most = overlaps.max(dim=2, keepdim=True).values
    closest = ((overlaps == most) & truth.valid[:, :, None]).any(dim=1)
    positive = (best >= _FOREGROUND_IOU) | closest
    return Assignment(box, positive, used=positive | (best < _BACKGROUND_IOU))


def retinanet_losses(
    truth: Truth,
    logits: Tensor,
    regression: Tensor,
    anchors: Tensor,
    assignment: Assignment,
    *,
    class_loss: str | ClassLoss,
    box_loss: str | BoxLoss,
) -> dict[str, Tensor]:
    """The losses ``classification`` and ``bbox_regression``: per image over its positive anchors, mean of the images.

    Parameters
    ----------
    logits
        Shape (b, n, classes).
    regression
        Shape (b, n, 4), offsets to the anchors.
    anchors
        Shape (n, 4).
    class_loss
        Focal (Lin et al. 2017), or varifocal (Zhang et al. 2021), which needs ``box_loss="giou"``; or a function.
    box_loss
        ``"l1"``, ``"giou"``, or a function.

    Raises
    ------
    ExtensionError
        If a function gives losses of another shape.
    """
    count = assignment.positive.sum(dim=1).clamp(min=1)
    boxes, quality = _box_losses(truth, regression, anchors, assignment, box_loss)
    label = truth.labels.gather(1, assignment.box)
    classes = torch.arange(logits.shape[2], device=logits.device)
    is_label = assignment.positive[..., None] & (label[..., None] == classes)
    if callable(class_loss):
        losses = _of_shape(class_loss(logits, is_label, quality), logits.shape, "class_loss")
    elif class_loss == "varifocal":
        goal = torch.where(is_label, quality[..., None], 0.0)
        weight = torch.where(goal > 0, goal, 0.75 * logits.detach().sigmoid().square())
        losses = binary_cross_entropy_with_logits(logits, goal, weight, reduction="none")
        boxes = _VARIFOCAL_BOX_WEIGHT * boxes
    else:
        losses = sigmoid_focal_loss(logits, is_label.to(logits.dtype))
    if assignment.used is not None:
        losses = torch.where(assignment.used[..., None], losses, 0.0)
    return {
        "classification": (losses.sum(dim=(1, 2)) / count).mean(),
        "bbox_regression": (boxes / count).mean(),
    }


_LEAST_SURE = 0.1
"""Score of a teacher below which its box teaches nothing."""


def distillation_losses(soft: SoftTruth, logits: Tensor, regression: Tensor, anchors: Tensor) -> dict[str, Tensor]:
    """How far a student's dense scores and boxes are from its teacher's, as two losses.

    Scores: cross entropy with the teacher's score, weighted by the squared difference of the two (quality focal loss,
    Li et al. 2020), so that the many anchors on which both agree weigh nothing. Boxes: GIoU loss, weighted by the
    teacher's score where that is 0.1 or more. Both are per image over the sum of the teacher's scores, as the
    student's own are over its positive anchors.

    Parameters
    ----------
    logits, regression, anchors
        As of `retinanet_losses`.
    """
    apart = (soft.scores - logits.detach().sigmoid()).square()
    classes = binary_cross_entropy_with_logits(logits, soft.scores, apart, reduction="none")
    surest = soft.scores.amax(dim=2)
    sure = torch.where(surest >= _LEAST_SURE, surest, 0.0)
    boxes = _giou_loss(_decode(regression, anchors.expand(len(logits), -1, -1)), soft.boxes) * sure
    count = sure.sum(dim=1).clamp(min=1)
    return {
        "distilled_classification": soft.weight * (classes.sum(dim=(1, 2)) / count).mean(),
        "distilled_bbox_regression": soft.weight * (boxes.sum(dim=1) / count).mean(),
    }


def decode_boxes(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., 4) in pixels of the input from a head's offsets to its anchors."""
    return _decode(offsets, anchors)


def _box_losses(
    truth: Truth,
    regression: Tensor,
    anchors: Tensor,
    assignment: Assignment,
    kind: str | BoxLoss,
) -> tuple[Tensor, Tensor]:
    """Per image the sum over its positive anchors (b,), and how well each anchor's box fits its mass (b, n)."""
    images, count = assignment.box.shape
    if assignment.pool is None:
        offsets, given = regression, anchors.expand(images, -1, -1)
        of = assignment.box
        learns = assignment.positive
    else:
        # Each box's own candidates: a twentieth of all anchors. Which of them learn that very box?
        pool = assignment.pool.flatten(1)
        offsets, given = regression.gather(1, _four(pool)), anchors[pool]
        of = torch.arange(truth.valid.shape[1], device=pool.device).repeat_interleave(assignment.pool.shape[2])
        of = of.expand(images, -1)
        learns = assignment.positive.gather(1, pool) & (assignment.box.gather(1, pool) == of)
    goal = truth.boxes.gather(1, _four(of))
    if kind == "l1":
        losses = l1_loss(offsets, _encode(goal, given), reduction="none").sum(dim=2)
        return torch.where(learns, losses, 0.0).sum(dim=1), regression.new_zeros(images, count)
    boxes = _decode(offsets, given)
    of_boxes = _of_shape(kind(boxes, goal), learns.shape, "box_loss") if callable(kind) else _giou_loss(boxes, goal)
    losses = torch.where(learns, of_boxes, 0.0).sum(dim=1)
    quality = torch.where(learns, paired_iou(boxes.detach(), goal), 0.0)
    if assignment.pool is None:
        return losses, quality
    # An anchor may stand in the pools of several boxes; all but the one that it learns say 0.
    return losses, regression.new_zeros(images, count).scatter_reduce(1, pool, quality, "amax")


def _of_shape(losses: Tensor, shape: tuple[int, ...], key: str) -> Tensor:
    if not isinstance(losses, Tensor) or losses.shape != shape:
        given = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ExtensionError(f"the function of detector.{key} has to give losses of shape {tuple(shape)}, not {given}")
    return losses


def _four(index: Tensor) -> Tensor:
    return index[..., None].expand(*index.shape, 4)


def _encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Offsets from anchors to boxes (Ren et al. 2015): in its sides, and logarithms of ratios of sides."""
    sides = anchors[..., 2:] - anchors[..., :2]
    moved = (_centres(boxes) - _centres(anchors)) / sides
    return torch.cat((moved, ((boxes[..., 2:] - boxes[..., :2]) / sides).log()), dim=-1)


def _decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Boxes from offsets to anchors; the reverse of `_encode`, no side over 62.5 times the anchor's."""
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = _centres(anchors) + offsets[..., :2] * sides
    halves = 0.5 * sides * offsets[..., 2:].clamp(max=_LARGEST_OFFSET).exp()
    return torch.cat((centres - halves, centres + halves), dim=-1)


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _shared(boxes: Tensor, others: Tensor) -> Tensor:
    sides = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    sides = sides.clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of the first with the first, the second with the second; shapes (..., 4) that broadcast, to (...)."""
    shared = _shared(boxes, others)
    return shared / (_areas(boxes) + _areas(others) - shared).clamp(min=1e-6)


def _giou_loss(boxes: Tensor, others: Tensor) -> Tensor:
    """1 minus the generalised IoU (Rezatofighi et al. 2019), pair by pair: shapes (..., 4) to (...)."""
    shared = _shared(boxes, others)
    union = _areas(boxes) + _areas(others) - shared
    hull = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    hull_area = hull[..., 0] * hull[..., 1]
    return 1 - (shared / (union + _EPSILON) - (hull_area - union) / (hull_area + _EPSILON))
