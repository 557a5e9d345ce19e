"""RetinaNet (Lin et al. 2017) with the ways of learning and of merging boxes that came after it."""

import sys
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.ops import batched_nms, box_iou

from mammoscope.detectors.losses import (
    Assignment,
    BoxLoss,
    ClassLoss,
    Truth,
    assign_by_atss,
    assign_by_iou,
    decode_boxes,
    distillation_losses,
    retinanet_losses,
)
from mammoscope.detectors.normalisation import real_boxes


class AdaptiveRetinaNet(RetinaNet):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RetinaNet, its losses of a whole batch at once, with a choice of assignment, loss and voted boxes.

    Parameters
    ----------
    matching
        ``"iou"``: torchvision's thresholds of 0.4 and 0.5; ``"atss"``: adaptive (Zhang et al. 2020).
    class_loss
        ``"focal"``; ``"varifocal"`` (Zhang et al. 2021): a score learns how well its box fits; or a function
        (`mammoscope.detectors.losses.ClassLoss`).
    box_loss
        ``"l1"`` of the offsets to the anchor, ``"giou"`` of the box, or a function
        (`mammoscope.detectors.losses.BoxLoss`).
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
        matching: Literal["iou", "atss"],
        class_loss: str | ClassLoss,
        box_loss: str | BoxLoss,
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
        self._box_loss = box_loss
        self._vote_iou = vote_iou

    def propose_everything(self) -> None:
        """From now on return every anchor's box as it is, however unlikely and however many overlap."""
        self.score_thresh, self._nms_iou, self._vote_iou = 0.0, 1.0, None
        self.topk_candidates = self.detections_per_img = self._max_detections = sys.maxsize

    def forward(
        self, images: Tensor | Sequence[Tensor], targets: Truth | Sequence[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """In training mode the losses ``classification`` and ``bbox_regression``, else the detections of each image.

        Parameters
        ----------
        images
            Shape (n, 3, rows, columns), from 0 to 1.
        targets
            The truth, needed in training mode.
        """
        normalised, _ = self.transform(images)
        rows, columns = (int(side) for side in normalised.tensors.shape[-2:])
        features = list(self.backbone(normalised.tensors).values())
        said = self.head(features)
        levels = self.anchor_generator.per_level((rows, columns), features)
        if self.training:
            assert targets is not None, "a detector needs targets to learn"
            truth = targets if isinstance(targets, Truth) else Truth.from_targets(targets)
            if truth.soft is not None:
                own = self._losses(truth, said["cls_logits"], said["bbox_regression"], levels)
                dense = (said["cls_logits"], said["bbox_regression"], torch.cat(list(levels)))
                return own | distillation_losses(truth.soft, *dense)
            return self._losses(truth, said["cls_logits"], said["bbox_regression"], levels)
        sizes = [len(level) for level in levels]
        by_level = {name: list(value.split(sizes, dim=1)) for name, value in said.items()}
        count = len(normalised.image_sizes)
        return self.postprocess_detections(by_level, [levels] * count, normalised.image_sizes)

    def dense(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What the network says of every anchor, level after level, finest first.

        Returns
        -------
        list of (Tensor, Tensor)
            Scores (n, rows, columns, anchors, classes) from 0 to 1, and boxes (n, rows, columns, anchors, 4) in
            pixels of the input.
        """
        normalised, _ = self.transform(images.expand(-1, 3, -1, -1))
        rows, columns = (int(side) for side in normalised.tensors.shape[-2:])
        features = list(self.backbone(normalised.tensors).values())
        said = self.head(features)
        levels = self.anchor_generator.per_level((rows, columns), features)
        sizes = [len(level) for level in levels]
        found = []
        for feature, anchors, logits, offsets in zip(
            features,
            levels,
            said["cls_logits"].split(sizes, dim=1),
            said["bbox_regression"].split(sizes, dim=1),
            strict=True,
        ):
            grid = (len(images), *feature.shape[-2:], self.anchor_generator.num_anchors_per_location()[0])
            boxes = decode_boxes(offsets.float(), anchors.expand(len(images), -1, -1))
            found.append((logits.float().sigmoid().reshape(*grid, -1), boxes.reshape(*grid, 4)))
        return found

    def _losses(self, truth: Truth, logits: Tensor, regression: Tensor, levels: Sequence[Tensor]) -> dict[str, Tensor]:
        anchors = torch.cat(list(levels))
        return retinanet_losses(
            truth,
            logits,
            regression,
            anchors,
            self._assign(truth, anchors, [len(level) for level in levels]),
            class_loss=self._class_loss,
            box_loss=self._box_loss,
        )

    def _assign(self, truth: Truth, anchors: Tensor, levels: Sequence[int]) -> Assignment:
        if self._matching == "atss":
            return assign_by_atss(truth, anchors, levels, self.anchor_generator.num_anchors_per_location()[0])
        return assign_by_iou(truth, anchors)

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
        real = real_boxes(candidates["boxes"])
        boxes, scores, labels = (candidates[name][real] for name in ("boxes", "scores", "labels"))
        keep = batched_nms(boxes, scores, labels, self._nms_iou)[: self._max_detections]
        kept = boxes[keep]
        if self._vote_iou is not None:
            same = (box_iou(kept, boxes) >= self._vote_iou) & (labels[keep][:, None] == labels[None])
            weights = same * scores[None]
            kept = weights @ boxes / weights.sum(dim=1, keepdim=True)
        return {"boxes": kept, "scores": scores[keep], "labels": labels[keep]}
