"""RetinaNet (Lin et al. 2017) and Faster R-CNN (Ren et al. 2015) on a feature pyramid, from torchvision's parts."""

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import MultiScaleRoIAlign

from mammoscope.detectors.backbones import FeaturePyramid, build_backbone, pixel_normalisation
from mammoscope.detectors.detectron2 import build_detectron2
from mammoscope.detectors.retinanet import AdaptiveRetinaNet
from mammoscope.detectors.spec import Architecture, DetectorSpec, Layout


def build_detector(spec: DetectorSpec, rows: int, columns: int, *, load_weights: bool = True) -> "MassDetector":
    """A detector for inputs of that size, with its backbone's weights loaded.

    Parameters
    ----------
    load_weights
        Whether to load the backbone's weights that the spec names; not needed where a checkpoint follows.

    Raises
    ------
    WeightsError
        If the backbone's weights cannot be had or do not fit.
    """
    if spec.layout is Layout.DETECTRON2:
        return MassDetector(build_detectron2(spec, load_weights=load_weights), spec)
    build = _retinanet if spec.architecture is Architecture.RETINANET else _faster_rcnn
    return MassDetector(build(spec, build_backbone(spec, load_weights=load_weights), rows, columns), spec)


class MassDetector(nn.Module):
    """One interface for both architectures: grey images and boxes of class indices from 0.

    In training mode ``forward`` returns the named losses, else one dict per image with ``boxes`` (n, 4),
    ``scores`` (n,) and ``labels`` (n,).
    """

    def __init__(self, network: nn.Module, spec: DetectorSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses or detections.

        Parameters
        ----------
        images
            Shape (n, 1, rows, columns), from 0 to 1 (`mammoscope.imaging.preprocessing`).
        targets
            Per image ``boxes`` (k, 4) in input pixels and ``labels`` (k,) from 0; needed in training mode.
        """
        coloured = list(images.expand(-1, 3, -1, -1))
        if self.training:
            assert targets is not None
            shifted = [{**target, "labels": target["labels"] + self._background} for target in targets]
            losses: dict[str, Tensor] = self.network(coloured, shifted)
            return losses
        detections = self.network(coloured)
        return [{**found, "labels": found["labels"] - self._background} for found in detections]

    @property
    def _background(self) -> int:
        """The class 0 of torchvision's Faster R-CNN is the background; the others have none, or as their last."""
        torchvision_s = self.spec.layout is Layout.TORCHVISION
        return 1 if torchvision_s and self.spec.architecture is Architecture.FASTER_RCNN else 0


def _retinanet(spec: DetectorSpec, backbone: FeaturePyramid, rows: int, columns: int) -> RetinaNet:
    sizes = tuple(
        tuple(int(spec.anchor_scale * 2 ** (level + octave / 3)) for octave in range(3)) for level in range(5)
    )
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    head = RetinaNetHead(
        spec.fpn_channels,
        anchors.num_anchors_per_location()[0],
        len(spec.classes),
        norm_layer=partial(nn.GroupNorm, 16) if spec.norm == "group" else None,
    )
    head.regression_head._loss_type = spec.box_loss
    return AdaptiveRetinaNet(
        backbone,
        num_classes=len(spec.classes),
        anchor_generator=anchors,
        head=head,
        score_thresh=spec.score_threshold,
        topk_candidates=400,
        matching=spec.matching,
        class_loss=spec.class_loss,
        level_sizes=[-(-rows // stride) * -(-columns // stride) for stride in (8, 16, 32, 64, 128)],
        nms_iou=spec.nms_iou,
        max_detections=spec.max_detections,
        vote_iou=spec.vote_iou,
        **_fixed_input(spec, rows, columns),
    )


def _faster_rcnn(spec: DetectorSpec, backbone: FeaturePyramid, rows: int, columns: int) -> FasterRCNN:
    sizes = tuple((spec.anchor_scale * 2**level,) for level in range(5))
    roi_pool = MultiScaleRoIAlign(featmap_names=["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    # The paper's head has 1024 channels on a pyramid of 256; a lighter pyramid gets a head in proportion.
    width = spec.fpn_channels * 4
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_roi_pool=roi_pool,
        box_head=TwoMLPHead(spec.fpn_channels * 7 * 7, width),
        box_predictor=FastRCNNPredictor(width, len(spec.classes) + 1),
        box_score_thresh=spec.score_threshold,
        box_nms_thresh=spec.nms_iou,
        box_detections_per_img=spec.max_detections,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=200,
        **_fixed_input(spec, rows, columns),
    )


def _fixed_input(spec: DetectorSpec, rows: int, columns: int) -> dict[str, object]:
    """Tell torchvision to normalise and not to resize: sizes are `mammoscope.imaging.preprocessing`'s business."""
    mean, std = pixel_normalisation(spec.backbone)
    return {
        "min_size": min(rows, columns),
        "max_size": max(rows, columns),
        "image_mean": list(mean),
        "image_std": list(std),
        "_skip_resize": True,
    }


def count_parameters(detector: nn.Module) -> int:
    """How many numbers the detector holds."""
    return sum(parameter.numel() for parameter in detector.parameters())


def to_channels_last(detector: MassDetector) -> MassDetector:
    """The layout in which CPUs and GPUs convolve fastest."""
    return detector.to(memory_format=torch.channels_last)
