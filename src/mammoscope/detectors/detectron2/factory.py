"""A detector of Detectron2's layout from its spec."""

from torch import nn

from mammoscope.detectors.detectron2.backbone import (
    ConvolvedTop,
    PooledTop,
    Pyramid,
    ResNet,
    frozen_batch_norm,
    group_norm,
    load_pretrained,
)
from mammoscope.detectors.detectron2.boxes import Anchors
from mammoscope.detectors.detectron2.faster_rcnn import FasterRCNN
from mammoscope.detectors.detectron2.retinanet import RetinaNet
from mammoscope.detectors.spec import Architecture, Backbone, DetectorSpec

_STRIDES = {Architecture.RETINANET: (8, 16, 32, 64, 128), Architecture.FASTER_RCNN: (4, 8, 16, 32, 64)}


def build_detectron2(spec: DetectorSpec, *, load_weights: bool = True) -> RetinaNet | FasterRCNN:
    """A network with Detectron2's tensor names, with the backbone's weights loaded.

    Raises
    ------
    WeightsError
        If the backbone's weights cannot be had or do not fit.
    """
    options, retina = spec.detectron2, spec.architecture is Architecture.RETINANET
    norm_name = options.backbone_norm or ("group" if spec.weights == "none" else "frozen_batch")
    resnet = ResNet(
        Backbone(spec.backbone),
        len(options.pixel_mean),
        group_norm if norm_name == "group" else frozen_batch_norm,
        frozen_stages=spec.frozen_stages,
        stride_in_1x1=options.stride_in_1x1,
    )
    if load_weights and spec.weights != "none":
        load_pretrained(resnet, spec)
    top: nn.Module = ConvolvedTop(spec.fpn_channels) if retina else PooledTop()
    stages = ("res3", "res4", "res5") if retina else ("res2", "res3", "res4", "res5")
    pyramid_norm = group_norm if options.pyramid_norm == "group" else None
    pyramid = Pyramid(resnet, stages, spec.fpn_channels, pyramid_norm, top)
    anchors = Anchors(
        _per_level(options.anchor_sizes or _sizes(spec)),
        _per_level(options.anchor_ratios),
        _STRIDES[Architecture(spec.architecture)],
        options.anchor_offset,
    )
    if retina:
        return RetinaNet(pyramid, anchors, spec, group_norm if spec.norm == "group" else None)
    return FasterRCNN(pyramid, anchors, spec)


def _sizes(spec: DetectorSpec) -> tuple[tuple[float, ...], ...]:
    octave = 3 if spec.architecture is Architecture.RETINANET else 1
    return tuple(
        tuple(spec.anchor_scale * 2 ** (level + part / octave) for part in range(octave)) for level in range(5)
    )


def _per_level(values: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    return values * 5 if len(values) == 1 else values
