"""FCOS (Tian et al. 2019), a detector without anchors, from torchvision's parts on this package's backbones.

A recipe names it as it names a network of another package: ``architecture = "mammoscope.detectors.fcos:Fcos"``, with
its backbone in ``detector.options``.
"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import batched_nms

from mammoscope.detectors.backbones import build_backbone, pixel_normalisation
from mammoscope.detectors.extensions import ExtensionError, read_options
from mammoscope.detectors.losses import Truth
from mammoscope.detectors.normalisation import FixedAnchors, PixelNormalisation, real_boxes
from mammoscope.detectors.spec import Architecture, DetectorSpec

_STRIDES = (8, 16, 32, 64, 128)


class FcosOptions(BaseModel):
    """``detector.options`` of an FCOS.

    Parameters
    ----------
    backbone
        As ``detector.backbone`` of a RetinaNet; its weights, frozen stages and pyramid are the section's own keys.
    centre_radius
        A position within so many strides of a mass's middle learns it.
    candidates
        Positions a level that are looked at before suppression.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    centre_radius: float = Field(default=1.5, gt=0)
    candidates: int = Field(default=400, ge=1)


class Fcos(nn.Module):
    """Grey images (n, 1, rows, columns) and `Truth` to losses, or grey images to detections by falling score.

    Raises
    ------
    ExtensionError
        If ``detector.options`` are not `FcosOptions`, or the pyramid is too narrow.
    WeightsError
        If the backbone's weights cannot be had or do not fit.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        options = read_options(FcosOptions, spec.architecture, spec.options)
        if spec.fpn_channels % 32 or spec.fpn_channels < 64:
            raise ExtensionError(
                f"fpn_channels = {spec.fpn_channels}: FCOS normalises in 32 groups of two channels or more, so give 64 "
                "or a larger multiple of 32"
            )
        # The pyramid is RetinaNet's: strides 8 to 128.
        shared = spec.model_dump(include={"weights", "frozen_stages", "fpn_channels", "classes"})
        of_the_pyramid = DetectorSpec.model_validate(
            {**shared, "architecture": Architecture.RETINANET, "backbone": options.backbone}
        )
        anchors = FixedAnchors(tuple((stride,) for stride in _STRIDES), ((1.0,),) * len(_STRIDES))
        self.network = FCOS(
            build_backbone(of_the_pyramid),
            num_classes=len(spec.classes),
            anchor_generator=anchors,
            head=FCOSHead(spec.fpn_channels, anchors.num_anchors_per_location()[0], len(spec.classes)),
            center_sampling_radius=options.centre_radius,
            score_thresh=spec.score_threshold,
            nms_thresh=1.0,
            detections_per_img=len(_STRIDES) * options.candidates,
            topk_candidates=options.candidates,
        )
        self.network.transform = PixelNormalisation(*pixel_normalisation(of_the_pyramid.backbone))
        self._limits = _Limits(spec.nms_iou, spec.max_detections)

    def forward(self, images: Tensor, truth: Truth | None = None) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, else detections."""
        pictures = list(images.expand(-1, 3, -1, -1))
        if self.training:
            assert truth is not None, "a detector needs the truth to learn"
            losses: dict[str, Tensor] = self.network(pictures, truth.as_targets())
            return losses
        return [self._limits.kept(found) for found in self.network(pictures)]


@dataclass(frozen=True, slots=True)
class _Limits:
    """Of two detections that overlap more than ``iou``, the lower score goes; ``most`` are left."""

    iou: float
    most: int

    def kept(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        real = real_boxes(found["boxes"])
        boxes, scores, labels = (found[name][real] for name in ("boxes", "scores", "labels"))
        keep = batched_nms(boxes, scores, labels, self.iou)[: self.most]
        return {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}
