"""RetinaNet (Lin et al. 2017) with Detectron2's head, losses and post-processing."""

import math

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes, sigmoid_focal_loss

from mammoscope.detectors.detectron2.backbone import Norm, Pictures, Pyramid, normal
from mammoscope.detectors.detectron2.boxes import IGNORED, Anchors, box_loss, by_anchor, decode, match
from mammoscope.detectors.spec import DetectorSpec

_MOMENTUM = 0.9
_EXPECTED_FOREGROUND = 100.0


class RetinaNet(nn.Module):
    """Pictures to losses or detections; its submodules have Detectron2's names."""

    def __init__(self, backbone: Pyramid, anchors: Anchors, spec: DetectorSpec, norm: Norm | None) -> None:
        super().__init__()
        self._spec, self._options = spec, spec.detectron2
        self.pictures = Pictures(self._options.pixel_mean, self._options.pixel_std)
        self.backbone = backbone
        self.anchors = anchors
        classes = len(spec.classes)
        self.head = RetinaNetHead(
            spec.fpn_channels, classes, anchors.per_place, self._options.head_convolutions, norm, self._options.prior
        )
        self._coder = BoxCoder(self._options.box_weights)
        # Detectron2 forgets it between runs; kept with the weights, a resumed run continues like an unbroken one.
        self.register_buffer("loss_normaliser", torch.tensor(_EXPECTED_FOREGROUND))
        self.loss_normaliser: Tensor

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """As torchvision's detectors: losses by name in training mode, else detections per image."""
        picture = self.pictures(images)
        maps = list(self.backbone(picture).values())
        classes = len(self._spec.classes)
        logits = [by_anchor(self.head.logits(level), classes) for level in maps]
        deltas = [by_anchor(self.head.deltas(level), 4) for level in maps]
        anchors = self.anchors(maps)
        if self.training:
            assert targets is not None
            return self._losses(torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors), targets)
        size = (int(picture.shape[-2]), int(picture.shape[-1]))
        return [
            self._detections([level[image] for level in logits], [level[image] for level in deltas], anchors, size)
            for image in range(len(images))
        ]

    def _losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        options = self._options
        wanted = torch.zeros_like(logits)
        counted = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        # Not in the half precision of a mixed training, which cannot tell neighbouring pixels apart.
        places = torch.zeros_like(deltas, dtype=torch.float32)
        for image, target in enumerate(targets):
            matched, verdict = match(target["boxes"], anchors, *options.anchor_iou, low_quality=True)
            counted[image] = verdict != IGNORED
            foreground = torch.where(verdict == 1)[0]
            wanted[image, foreground, target["labels"][matched[foreground]]] = 1
            places[image, foreground] = target["boxes"][matched[foreground]].to(places.dtype)
        foreground = wanted.any(-1)
        loss_class = sigmoid_focal_loss(
            logits[counted], wanted[counted], options.focal_alpha, options.focal_gamma, reduction="sum"
        )
        repeated = anchors.expand(len(targets), -1, -1)[foreground]
        loss_box = box_loss(
            self._spec.box_loss, options.smooth_l1_beta, self._coder, deltas[foreground], repeated, places[foreground]
        )
        self.loss_normaliser.lerp_(foreground.sum().clamp(min=1).to(self.loss_normaliser), 1 - _MOMENTUM)
        # A copy: another forward pass before this one's backward must not change what it divided by.
        normaliser = self.loss_normaliser.clone()
        return {"loss_cls": loss_class / normaliser, "loss_box_reg": loss_box / normaliser}

    def _detections(
        self, logits: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        spec, boxes, scores, labels = self._spec, [], [], []
        for level, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
            flat = level.float().sigmoid().flatten()
            best, places = flat.topk(min(self._options.candidates, int(flat.shape[0])))
            likely = best > spec.score_threshold
            best, places = best[likely], places[likely]
            of = torch.div(places, len(spec.classes), rounding_mode="floor")
            boxes.append(decode(self._coder, level_deltas[of], level_anchors[of]).reshape(-1, 4))
            scores.append(best)
            labels.append(places - of * len(spec.classes))
        return suppress(torch.cat(boxes), torch.cat(scores), torch.cat(labels), spec, size, clip_first=False)


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, spec: DetectorSpec, size: tuple[int, int], *, clip_first: bool
) -> dict[str, Tensor]:
    """Non-maximum suppression per class, the best within the image.

    RetinaNet compares boxes as they are and clips what is left, Faster R-CNN clips them before.
    """
    if clip_first:
        boxes = clip_boxes_to_image(boxes, size)
    kept = batched_nms(boxes, scores, labels, spec.nms_iou)[: spec.max_detections]
    boxes, scores, labels = clip_boxes_to_image(boxes[kept], size), scores[kept], labels[kept]
    real = remove_small_boxes(boxes, 1e-9)
    return {"boxes": boxes[real], "scores": scores[real], "labels": labels[real]}


class RetinaNetHead(nn.Module):
    """Two towers of convolutions, shared between levels."""

    def __init__(
        self, channels: int, classes: int, anchors: int, convolutions: int, norm: Norm | None, prior: float
    ) -> None:
        super().__init__()
        self.cls_subnet = _tower(channels, convolutions, norm)
        self.bbox_subnet = _tower(channels, convolutions, norm)
        self.cls_score = nn.Conv2d(channels, anchors * classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, anchors * 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal(module, 0.01)
        assert self.cls_score.bias is not None
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior) / prior))

    def logits(self, level: Tensor) -> Tensor:
        """Of classes, (n, anchors * classes, rows, columns)."""
        found: Tensor = self.cls_score(self.cls_subnet(level))
        return found

    def deltas(self, level: Tensor) -> Tensor:
        """Boxes relative to anchors, (n, anchors * 4, rows, columns)."""
        found: Tensor = self.bbox_pred(self.bbox_subnet(level))
        return found


def _tower(channels: int, convolutions: int, norm: Norm | None) -> nn.Sequential:
    tower = nn.Sequential()
    for _ in range(convolutions):
        tower.append(nn.Conv2d(channels, channels, 3, padding=1))
        if norm:
            tower.append(norm(channels))
        tower.append(nn.ReLU())
    return tower
