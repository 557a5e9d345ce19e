"""Faster R-CNN (Ren et al. 2015) with Detectron2's stages, sampling, losses and post-processing.

Faster R-CNN's first stage: where a lesion might be.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image

from mammoscope.detectors.detectron2.backbone import Pictures, Pyramid, normal, xavier
from mammoscope.detectors.detectron2.boxes import (
    BACKGROUND,
    FOREGROUND,
    IGNORED,
    Anchors,
    box_loss,
    by_anchor,
    decode,
    match,
    pool_regions,
    sample,
)
from mammoscope.detectors.detectron2.retinanet import suppress
from mammoscope.detectors.spec import DetectorSpec, Detectron2Options


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


_REGION_LEVELS = ("p2", "p3", "p4", "p5")


class FasterRCNN(nn.Module):
    """Pictures to losses or detections; its submodules have Detectron2's names."""

    def __init__(self, backbone: Pyramid, anchors: Anchors, spec: DetectorSpec) -> None:
        super().__init__()
        self._spec = spec
        self.pictures = Pictures(spec.detectron2.pixel_mean, spec.detectron2.pixel_std)
        self.backbone = backbone
        self.proposal_generator = ProposalNetwork(anchors, spec.fpn_channels, spec.detectron2)
        self.roi_heads = RegionHeads(spec)

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """As torchvision's detectors, but with classes from 0: losses by name in training mode, else detections."""
        picture = self.pictures(images)
        maps = self.backbone(picture)
        size = (int(picture.shape[-2]), int(picture.shape[-1]))
        proposals, losses = self.proposal_generator(list(maps.values()), size, targets)
        levels = [maps[name] for name in _REGION_LEVELS]
        if self.training:
            assert targets is not None
            both: dict[str, Tensor] = losses | self.roi_heads.losses(levels, proposals, targets)
            return both
        return [self.roi_heads.detections(levels, image, boxes, size) for image, boxes in enumerate(proposals)]


class RegionHeads(nn.Module):
    """The second stage: classes and boxes of regions."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self._spec, self._options = spec, spec.detectron2
        options = self._options
        self.box_head = nn.Module()
        inward = spec.fpn_channels * options.region_pixels**2
        for number in range(options.region_layers):
            layer = nn.Linear(inward, options.region_width)
            xavier(layer)
            self.box_head.add_module(f"fc{number + 1}", layer)
            inward = options.region_width
        boxes = len(spec.classes) if options.region_box_per_class else 1
        self.box_predictor = _Predictor(inward, len(spec.classes) + 1, boxes)
        self._coder = BoxCoder(options.region_box_weights)

    def losses(
        self, levels: list[Tensor], proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Cross entropy over the sampled regions and the boxes of those that are foreground."""
        options, background = self._options, len(self._spec.classes)
        regions, wanted, places = [], [], []
        for found, target in zip(proposals, targets, strict=True):
            truth = target["boxes"].to(found.dtype)
            candidates = torch.cat([found, truth]) if options.append_truth else found
            matched, verdict = match(truth, candidates, options.region_iou, options.region_iou, low_quality=False)
            foreground, rest = sample(verdict, options.region_sample, options.region_positive)
            drawn = torch.cat([foreground, rest])
            labels = torch.full((len(drawn),), background, dtype=torch.int64, device=drawn.device)
            labels[: len(foreground)] = target["labels"][matched[foreground]]
            regions.append(candidates[drawn])
            wanted.append(labels)
            places.append(truth[matched[drawn]] if len(truth) else candidates[drawn])
        logits, deltas = self._predict(levels, regions)
        labels = torch.cat(wanted)
        foreground = torch.where(labels < background)[0]
        if options.region_box_per_class:
            deltas = deltas.view(len(deltas), -1, 4)[foreground, labels[foreground]]
        else:
            deltas = deltas[foreground]
        loss_box = box_loss(
            "l1",
            options.region_smooth_l1_beta,
            self._coder,
            deltas,
            torch.cat(regions)[foreground],
            torch.cat(places)[foreground],
        )
        # Over all regions, not those with a box: each true box then weighs the same in every batch.
        return {
            "loss_cls": functional.cross_entropy(logits, labels),
            "loss_box_reg": loss_box / max(len(labels), 1),
        }

    def detections(self, levels: list[Tensor], image: int, regions: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """What one image's regions hold."""
        classes = len(self._spec.classes)
        logits, deltas = self._predict([level[image : image + 1] for level in levels], [regions])
        scores = logits.float().softmax(-1)[:, :classes]
        boxes = decode(self._coder, deltas, regions).reshape(-1, deltas.shape[1] // 4, 4)
        region, label = torch.where(scores > self._spec.score_threshold)
        boxes = boxes[region, label if self._options.region_box_per_class else torch.zeros_like(label)]
        return suppress(boxes, scores[region, label], label, self._spec, size, clip_first=True)

    def _predict(self, levels: list[Tensor], regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        options = self._options
        features = pool_regions(levels, regions, options.region_pixels, options.region_sampling).flatten(1)
        for layer in self.box_head.children():
            features = functional.relu(layer(features))
        predicted: tuple[Tensor, Tensor] = self.box_predictor(features)
        return predicted


class _Predictor(nn.Module):
    def __init__(self, inward: int, classes: int, boxes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(inward, classes)
        self.bbox_pred = nn.Linear(inward, boxes * 4)
        normal(self.cls_score, 0.01)
        normal(self.bbox_pred, 0.001)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(features), self.bbox_pred(features)
