"""Faster R-CNN's first stage: where a lesion might be."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image

from mammoscope.detectors.detectron2.boxes import (
    BACKGROUND,
    FOREGROUND,
    IGNORED,
    Anchors,
    box_loss,
    by_anchor,
    decode,
    match,
    sample,
)
from mammoscope.detectors.detectron2.pyramid import normal
from mammoscope.detectors.detectron2_options import Detectron2Options


class ProposalNetwork(nn.Module):
    """Maps to proposals and, in training mode, losses."""

    def __init__(self, anchors: Anchors, channels: int, options: Detectron2Options) -> None:
        super().__init__()
        self._options = options
        self.anchors = anchors
        self.rpn_head = _Head(channels, anchors.per_place)
        self._coder = BoxCoder(options.proposal_box_weights)

    def forward(
        self, maps: list[Tensor], size: tuple[int, int], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Per image proposals (n, 4) by falling score, and losses by name."""
        predicted = [self.rpn_head(level) for level in maps]
        logits = [by_anchor(of_level, 1)[..., 0] for of_level, _ in predicted]
        deltas = [by_anchor(of_level, 4) for _, of_level in predicted]
        anchors = self.anchors(maps)
        losses = {}
        if self.training:
            assert targets is not None
            losses = self._losses(torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors), targets)
        with torch.no_grad():
            proposals = [
                self._propose([level[image] for level in logits], [level[image] for level in deltas], anchors, size)
                for image in range(len(logits[0]))
            ]
        return proposals, losses

    def _losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        options = self._options
        labels = torch.full_like(logits, IGNORED)
        places = torch.zeros_like(deltas, dtype=torch.float32)
        for image, target in enumerate(targets):
            matched, verdict = match(target["boxes"], anchors, *options.proposal_iou, low_quality=True)
            foreground, rest = sample(verdict, options.proposal_sample, options.proposal_positive)
            labels[image, foreground], labels[image, rest] = FOREGROUND, BACKGROUND
            places[image, foreground] = target["boxes"][matched[foreground]].to(places.dtype)
        counted, chosen = labels != IGNORED, labels == FOREGROUND
        loss_box = box_loss(
            "l1",
            options.proposal_smooth_l1_beta,
            self._coder,
            deltas[chosen],
            anchors.expand(len(targets), -1, -1)[chosen],
            places[chosen],
        )
        loss_class = functional.binary_cross_entropy_with_logits(logits[counted], labels[counted], reduction="sum")
        # By the sample's size, whether or not there were as many anchors to draw.
        normaliser = options.proposal_sample * len(targets)
        return {"loss_rpn_cls": loss_class / normaliser, "loss_rpn_loc": loss_box / normaliser}

    def _propose(
        self, logits: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], size: tuple[int, int]
    ) -> Tensor:
        options, in_use = self._options, not self.training
        boxes, scores, levels = [], [], []
        for number, (level, level_deltas, level_anchors) in enumerate(zip(logits, deltas, anchors, strict=True)):
            best, places = level.topk(min(options.proposal_candidates[in_use], int(level.shape[0])))
            boxes.append(decode(self._coder, level_deltas[places], level_anchors[places]).reshape(-1, 4))
            scores.append(best)
            levels.append(torch.full_like(places, number))
        clipped = clip_boxes_to_image(torch.cat(boxes), size)
        sides = clipped[:, 2:] - clipped[:, :2]
        large = (sides > options.proposal_min_size).all(-1)
        clipped = clipped[large]
        kept = batched_nms(
            clipped, torch.cat(scores)[large].float(), torch.cat(levels)[large], options.proposal_nms_iou
        )
        proposals: Tensor = clipped[kept[: options.proposals[in_use]]]
        return proposals


class _Head(nn.Module):
    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, anchors * 4, 1)
        for layer in (self.conv, self.objectness_logits, self.anchor_deltas):
            normal(layer, 0.01)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        hidden = functional.relu(self.conv(level))
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)
