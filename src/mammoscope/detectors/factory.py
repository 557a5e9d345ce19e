"""RetinaNet (Lin et al. 2017) and Faster R-CNN (Ren et al. 2015) on a feature pyramid, from torchvision's parts."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import MultiScaleRoIAlign

from mammoscope.detectors.backbones import FeaturePyramid, build_backbone, pixel_normalisation
from mammoscope.detectors.detectron2 import build_detectron2
from mammoscope.detectors.extensions import ExtensionError, ExtensionPoint, built, load_extension, names_an_extension
from mammoscope.detectors.losses import Truth
from mammoscope.detectors.normalisation import FixedAnchors, PixelNormalisation
from mammoscope.detectors.retinanet import AdaptiveRetinaNet
from mammoscope.detectors.spec import Architecture, DetectorSpec, Layout

_Network = TypeVar("_Network", RetinaNet, FasterRCNN)


def build_detector(spec: DetectorSpec, *, load_weights: bool = True) -> "MassDetector":
    """A detector for inputs of that size, with its backbone's weights loaded.

    Parameters
    ----------
    load_weights
        Whether to load the backbone's weights that the spec names; not needed where a checkpoint follows.

    Raises
    ------
    WeightsError
        If the backbone's weights cannot be had or do not fit.
    ExtensionError
        If a part that another package brings cannot be had.
    """
    if spec.is_own:
        return _OwnDetector(built(ExtensionPoint.DETECTOR, spec.architecture, spec), spec)
    if spec.layout is Layout.DETECTRON2:
        return MassDetector(build_detectron2(spec, load_weights=load_weights), spec)
    build = _retinanet if spec.architecture is Architecture.RETINANET else _faster_rcnn
    return MassDetector(build(spec, build_backbone(spec, load_weights=load_weights)), spec)


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
        self, images: Tensor, targets: Truth | list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses or detections.

        Parameters
        ----------
        images
            Shape (n, 1, rows, columns), from 0 to 1 (`mammoscope.imaging.preprocessing`).
        targets
            Per image ``boxes`` (k, 4) in input pixels and ``labels`` (k,) from 0, or the same padded; needed in
            training mode.
        """
        coloured = images.expand(-1, 3, -1, -1)
        if isinstance(self.network, AdaptiveRetinaNet):
            found: dict[str, Tensor] | list[dict[str, Tensor]] = self.network(coloured, targets)
            return found
        # Only torchvision's Faster R-CNN and Detectron2's networks take one image after the other.
        pictures = list(coloured)
        if self.training:
            assert targets is not None
            per_image = targets.as_targets() if isinstance(targets, Truth) else targets
            shifted = [{**target, "labels": target["labels"] + self._background} for target in per_image]
            losses: dict[str, Tensor] = self.network(pictures, shifted)
            return losses
        detections = self.network(pictures)
        return [{**found, "labels": found["labels"] - self._background} for found in detections]

    @property
    def _background(self) -> int:
        """The class 0 of torchvision's Faster R-CNN is the background; the others have none, or as their last."""
        torchvision_s = self.spec.layout is Layout.TORCHVISION
        return 1 if torchvision_s and self.spec.architecture is Architecture.FASTER_RCNN else 0


class _OwnDetector(MassDetector):
    """A network that another package brings; what it gives is looked at, so that a mistake is told where it is."""

    def __init__(self, network: nn.Module, spec: DetectorSpec) -> None:
        if not isinstance(network, nn.Module):
            raise ExtensionError(f"the detector {spec.architecture} returned no torch module")
        super().__init__(network, spec)

    def forward(
        self, images: Tensor, targets: Truth | list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """As the others; the network itself gets grey images (n, 1, rows, columns) and `Truth`."""
        if self.training:
            assert targets is not None
            losses = self.network(images, targets if isinstance(targets, Truth) else Truth.from_targets(targets))
            return self._checked_losses(losses)
        return self._checked_detections(self.network(images), len(images))

    def _checked_losses(self, losses: object) -> dict[str, Tensor]:
        scalars = isinstance(losses, dict) and losses
        if not scalars or not all(isinstance(one, Tensor) and one.ndim == 0 for one in losses.values()):  # type: ignore[attr-defined]
            raise ExtensionError(
                f"the detector {self.spec.architecture} has to give a dict of losses, each a tensor of one number, "
                "when it is in training mode"
            )
        checked: dict[str, Tensor] = losses  # type: ignore[assignment]
        return checked

    def _checked_detections(self, found: object, count: int) -> list[dict[str, Tensor]]:
        whole = isinstance(found, list) and len(found) == count
        if not whole or not all(_are_detections(one) for one in found):  # type: ignore[attr-defined]
            raise ExtensionError(
                f"the detector {self.spec.architecture} has to give a list of one dict an image with boxes (n, 4), "
                "scores (n,) and labels (n,), when it is not in training mode"
            )
        checked: list[dict[str, Tensor]] = found  # type: ignore[assignment]
        return checked


def _are_detections(one: object) -> bool:
    if not isinstance(one, dict) or not {"boxes", "scores", "labels"} <= one.keys():
        return False
    boxes, scores, labels = one["boxes"], one["scores"], one["labels"]
    if not all(isinstance(value, Tensor) for value in (boxes, scores, labels)):
        return False
    return bool(boxes.ndim == 2 and boxes.shape[1] == 4 and scores.shape == labels.shape == boxes.shape[:1])


def _retinanet(spec: DetectorSpec, backbone: FeaturePyramid) -> RetinaNet:
    sizes = tuple(
        tuple(int(spec.anchor_scale * 2 ** (level + octave / 3)) for octave in range(3)) for level in range(5)
    )
    anchors = FixedAnchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    head = RetinaNetHead(
        spec.fpn_channels,
        anchors.num_anchors_per_location()[0],
        len(spec.classes),
        norm_layer=partial(nn.GroupNorm, 16) if spec.norm == "group" else None,
    )
    network = AdaptiveRetinaNet(
        backbone,
        num_classes=len(spec.classes),
        anchor_generator=anchors,
        head=head,
        score_thresh=spec.score_threshold,
        topk_candidates=400,
        matching=spec.matching,
        class_loss=_loss(spec.class_loss),
        box_loss=_loss(spec.box_loss),
        nms_iou=spec.nms_iou,
        max_detections=spec.max_detections,
        vote_iou=spec.vote_iou,
    )
    return _with_normalisation(network, spec)


def _loss(name: str) -> str | Callable[..., Tensor]:
    return load_extension(ExtensionPoint.LOSS, name) if names_an_extension(ExtensionPoint.LOSS, name) else name


def _faster_rcnn(spec: DetectorSpec, backbone: FeaturePyramid) -> FasterRCNN:
    sizes = tuple((spec.anchor_scale * 2**level,) for level in range(5))
    roi_pool = MultiScaleRoIAlign(featmap_names=["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    # The paper's head has 1024 channels on a pyramid of 256; a lighter pyramid gets a head in proportion.
    width = spec.fpn_channels * 4
    network = FasterRCNN(
        backbone,
        rpn_anchor_generator=FixedAnchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_roi_pool=roi_pool,
        box_head=TwoMLPHead(spec.fpn_channels * 7 * 7, width),
        box_predictor=FastRCNNPredictor(width, len(spec.classes) + 1),
        box_score_thresh=spec.score_threshold,
        box_nms_thresh=spec.nms_iou,
        box_detections_per_img=spec.max_detections,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=200,
    )
    return _with_normalisation(network, spec)


def _with_normalisation(network: _Network, spec: DetectorSpec) -> _Network:
    network.transform = PixelNormalisation(*pixel_normalisation(spec.backbone))
    return network


def count_parameters(detector: nn.Module) -> int:
    """How many numbers the detector holds."""
    return sum(parameter.numel() for parameter in detector.parameters())


def to_channels_last(detector: MassDetector) -> MassDetector:
    """The layout in which CPUs and GPUs convolve fastest."""
    return detector.to(memory_format=torch.channels_last)
