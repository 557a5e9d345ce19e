"""A whole detector: one map at stride 8, whose every cell says whether a mass lies there and how far its edges are.

A small anchor-free network in the manner of FCOS (Tian et al. 2019), to show what Mammoscope asks of a detector.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, generalized_box_iou_loss, sigmoid_focal_loss

from mammoscope.detectors import DetectorSpec, Truth

STRIDE = 8


class CentreDetector(nn.Module):
    """Grey images in; losses while it learns, else boxes, scores and labels.

    Parameters
    ----------
    spec
        What the recipe's section ``[detector]`` says; ``options.width`` is the number of channels.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        width = int(spec.options.get("width", 32))
        self.spec = spec
        self.body = nn.Sequential(*_halving(1, width // 2), *_halving(width // 2, width), *_halving(width, width))
        self.around = nn.Sequential(*_block(width, width, dilation=2), *_block(width, width, dilation=4))
        self.classes = nn.Conv2d(width, len(spec.classes), 1)
        self.edges = nn.Conv2d(width, 4, 1)
        nn.init.constant_(self.classes.bias, -4.0)  # nearly every cell holds nothing

    def forward(self, images: Tensor, truth: Truth | None = None) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, else a dict for each image.

        Parameters
        ----------
        images
            Shape (n, 1, rows, columns), from 0 to 1.
        truth
            The boxes of the batch, padded to one number an image; given in training mode.
        """
        features = self.around(self.body(images - 0.5))
        logits = self.classes(features).flatten(2).transpose(1, 2)
        distances = self.edges(features).flatten(2).transpose(1, 2).exp() * STRIDE
        centres = _centres(*features.shape[-2:], features.device)
        boxes = torch.cat((centres - distances[..., :2], centres + distances[..., 2:]), dim=2)
        if self.training:
            assert truth is not None
            return self._losses(logits, boxes, centres, truth)
        limits = images.new_tensor([images.shape[3], images.shape[2]]).repeat(2)
        return [self._found(*one, limits) for one in zip(logits.sigmoid(), boxes, strict=True)]

    def _losses(self, logits: Tensor, boxes: Tensor, centres: Tensor, truth: Truth) -> dict[str, Tensor]:
        # A cell learns a mass if it lies in the middle half of its box; in several, the first.
        middle, half = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2, (truth.boxes[..., 2:] - truth.boxes[..., :2])
        near = (centres[None, :, None] - middle[:, None]).abs() <= (half[:, None] / 4).clamp(min=STRIDE / 2)
        inside = near.all(dim=3) & truth.valid[:, None]
        positive, which = inside.any(dim=2), inside.float().argmax(dim=2)
        label = truth.labels.gather(1, which)
        wanted = positive[..., None] & (label[..., None] == torch.arange(logits.shape[2], device=logits.device))
        count = positive.sum().clamp(min=1)
        goal = truth.boxes.gather(1, which[..., None].expand(-1, -1, 4))
        return {
            "classes": sigmoid_focal_loss(logits, wanted.float()).sum() / count,
            "boxes": generalized_box_iou_loss(boxes[positive], goal[positive]).sum() / count,
        }

    def _found(self, scores: Tensor, boxes: Tensor, limits: Tensor) -> dict[str, Tensor]:
        best, labels = scores.max(dim=1)
        best, order = best.topk(min(200, len(best)))
        order, best = order[best > self.spec.score_threshold], best[best > self.spec.score_threshold]
        boxes, labels = torch.minimum(boxes[order].clamp(min=0), limits), labels[order]
        keep = batched_nms(boxes, best, labels, self.spec.nms_iou)[: self.spec.max_detections]
        return {"boxes": boxes[keep], "scores": best[keep], "labels": labels[keep]}


def _block(given: int, made: int, *, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(given, made, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return [convolution, nn.GroupNorm(4, made), nn.ReLU()]


def _halving(given: int, made: int) -> list[nn.Module]:
    return _block(given, made, stride=2)


def _centres(rows: int, columns: int, device: torch.device) -> Tensor:
    """Shape (rows x columns, 2): x and y of each cell's middle in pixels of the input."""
    y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    return (torch.stack((x, y), dim=2).reshape(-1, 2) + 0.5) * STRIDE
