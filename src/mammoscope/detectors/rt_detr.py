"""RT-DETRv2 (Lv et al. 2024), a transformer detector without suppression, from Hugging Face's transformers.

A recipe names it as it names a network of another package: ``architecture = "mammoscope.detectors.rt_detr:RtDetr"``,
with its backbone in ``detector.options``. It needs the extra ``detr``; a bundle of it needs neither that nor torch.
"""

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import box_convert

from mammoscope.detectors.backbones import build_backbone, pixel_normalisation
from mammoscope.detectors.extensions import ExtensionError, read_options
from mammoscope.detectors.losses import Truth
from mammoscope.detectors.normalisation import PixelNormalisation, real_boxes
from mammoscope.detectors.spec import Architecture, DetectorSpec

_LOSSES = {"loss_vfl": "classification", "loss_bbox": "bbox_regression", "loss_giou": "bbox_giou"}


class RtDetrOptions(BaseModel):
    """``detector.options`` of an RT-DETR; the published small network has 256, 6 and 300.

    Parameters
    ----------
    backbone
        As ``detector.backbone`` of a RetinaNet; its weights and frozen stages are the section's own keys.
    width
        Of the transformer, a multiple of 8.
    layers
        Of the decoder.
    queries
        How many boxes each image is asked for.
    denoising
        Noised true boxes that are learnt from beside them; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    width: int = Field(default=128, ge=16, le=512, multiple_of=8)
    layers: int = Field(default=3, ge=2, le=12)
    queries: int = Field(default=100, ge=1, le=1000)
    denoising: int = Field(default=50, ge=0, le=500)


class RtDetr(nn.Module):
    """Grey images (n, 1, rows, columns) and `Truth` to losses, or grey images to detections by falling score.

    Raises
    ------
    ExtensionError
        If transformers or scipy is not installed, or ``detector.options`` are not `RtDetrOptions`.
    WeightsError
        If the backbone's weights cannot be had or do not fit.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        options = read_options(RtDetrOptions, spec.architecture, spec.options)
        shared = spec.model_dump(include={"weights", "frozen_stages"})
        of_the_body = DetectorSpec.model_validate(
            {**shared, "architecture": Architecture.RETINANET, "backbone": options.backbone}
        )
        body = build_backbone(of_the_body).body
        self._normalise = PixelNormalisation(*pixel_normalisation(of_the_body.backbone))
        self.network = _network(body, options, len(spec.classes))
        self._threshold, self._most = spec.score_threshold, spec.max_detections

    def forward(self, images: Tensor, truth: Truth | None = None) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, else detections."""
        pixels = self._normalise(images.expand(-1, 3, -1, -1))[0].tensors
        rows, columns = (int(side) for side in images.shape[-2:])
        sides = torch.tensor([columns, rows, columns, rows], dtype=torch.float32, device=images.device)
        if self.training:
            assert truth is not None, "a detector needs the truth to learn"
            labels = [
                {"class_labels": one["labels"], "boxes": box_convert(one["boxes"], "xyxy", "cxcywh") / sides}
                for one in truth.as_targets()
            ]
            parts: dict[str, Tensor] = self.network(pixel_values=pixels, labels=labels).loss_dict
            return {
                name: sum((value for key, value in parts.items() if key.startswith(kind)), images.new_zeros(()))
                for kind, name in _LOSSES.items()
            }
        said = self.network(pixel_values=pixels)
        boxes = box_convert(said.pred_boxes.float(), "cxcywh", "xyxy").clamp(0, 1) * sides
        return [self._kept(*one) for one in zip(boxes, said.logits.float().sigmoid(), strict=True)]

    def _kept(self, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
        best, label = scores.max(dim=1)
        order = best.argsort(descending=True)[: self._most]
        chosen = order[(best[order] >= self._threshold) & real_boxes(boxes[order])]
        return {"boxes": boxes[chosen], "scores": best[chosen], "labels": label[chosen]}


class _Features(nn.Module):
    """A backbone as RT-DETR takes it: each feature map with a mask that hides nothing."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        features = self.body(pixel_values)
        maps = list(features.values()) if isinstance(features, dict) else list(features)
        return [(one, interpolate(pixel_mask[None].float(), one.shape[-2:])[0].bool()) for one in maps]


def _network(body: nn.Module, options: RtDetrOptions, classes: int) -> Any:
    try:
        from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection
    except ImportError as error:
        raise ExtensionError(
            "RT-DETR needs transformers, which the extra 'train' does not install: run pip install '.[detr]' in "
            "Mammoscope's source folder"
        ) from error
    channels = _channels(body)
    resnet: Any = RTDetrResNetConfig  # arguments that the base class takes are not in its annotations
    settings: Any = RTDetrV2Config
    # transformers builds a backbone of its own, of which only the numbers of channels are used: it is replaced.
    placeholder = resnet(
        embedding_size=8,
        hidden_sizes=[8, *channels],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    network = RTDetrV2ForObjectDetection(
        settings(
            backbone_config=placeholder,
            num_labels=classes,
            encoder_hidden_dim=options.width,
            encoder_in_channels=channels,
            encoder_ffn_dim=4 * options.width,
            d_model=options.width,
            decoder_in_channels=[options.width] * 3,
            decoder_ffn_dim=4 * options.width,
            decoder_layers=options.layers,
            num_queries=options.queries,
            num_denoising=options.denoising,
        )
    )
    network.model.backbone = _Features(body)
    return network


def _channels(body: nn.Module) -> list[int]:
    was_training = body.training
    with torch.no_grad():
        features = body.eval()(torch.zeros(1, 3, 64, 64))
    body.train(was_training)
    return [int(one.shape[1]) for one in (features.values() if isinstance(features, dict) else features)]
