"""What Detectron2 lets one set, as a recipe's section ``[detector.detectron2]`` writes it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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
