"""Trained RetinaNets and Faster R-CNNs on ResNet-50 of torchvision and, a RetinaNet too, of orthanc-mammography.

orthanc-mammography (github.com/jodogne/orthanc-mammography, ``model.py``) builds torchvision's RetinaNet v2 from its
parts (P6 from C5, group norm in the head, GIoU), with two classes, and standardises each image by its own mean and
deviation.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import (
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
    retinanet_resnet50_fpn,
    retinanet_resnet50_fpn_v2,
)
from torchvision.ops import FrozenBatchNorm2d

from mammoscope.detectors.backbones import WeightsError
from mammoscope.detectors.normalisation import PixelNormalisation

_RETINANET, _FASTER_RCNN = "head.classification_head.cls_logits.bias", "roi_heads.box_predictor.cls_score.bias"
_ANCHORS = 9
_ORTHANC = {"nms_thresh": 0.3, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
_UNTRAINED = {"weights": None, "weights_backbone": None}


def is_retinanet_v2(tensors: dict[str, Tensor]) -> bool:
    """Whether tensors are of torchvision's second RetinaNet: group norm in the head, P6 from C5."""
    p6 = tensors.get("backbone.fpn.extra_blocks.p6.weight")
    return (
        _RETINANET in tensors
        and "head.classification_head.conv.0.1.weight" in tensors
        and p6 is not None
        and p6.shape[1] == 2048
    )


def load_torchvision(
    tensors: dict[str, Tensor], origin: Path, norm_epsilon: float, *, orthanc: bool
) -> tuple[nn.Module, int]:
    """A network with torchvision's or orthanc-mammography's weights, and how many classes it has.

    Raises
    ------
    WeightsError
        If the weights are of another network.
    """
    if orthanc and not is_retinanet_v2(tensors):
        raise WeightsError(f"{origin} is not orthanc-mammography's RetinaNet: leave out --layout")
    if _RETINANET in tensors:
        classes = len(tensors[_RETINANET]) // _ANCHORS
        build = retinanet_resnet50_fpn_v2 if is_retinanet_v2(tensors) else retinanet_resnet50_fpn
        network = build(num_classes=classes, **_UNTRAINED, **(_ORTHANC if orthanc else {}))
        background = 0
    elif _FASTER_RCNN in tensors:
        outputs = len(tensors[_FASTER_RCNN])
        second = "rpn.head.conv.1.0.weight" in tensors
        network = (fasterrcnn_resnet50_fpn_v2 if second else fasterrcnn_resnet50_fpn)(num_classes=outputs, **_UNTRAINED)
        classes, background = outputs - 1, 1
    else:
        raise WeightsError(
            f"{origin} is neither torchvision's RetinaNet nor its Faster R-CNN: no other can be imported"
        )
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(
            f"{origin} is not one of torchvision's detectors on ResNet-50 with a feature pyramid: no other can be "
            "imported"
        ) from error
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            module.eps = norm_epsilon
    network.transform = PixelNormalisation(network.transform.image_mean, network.transform.image_std)
    return _Torchvision(network, background, standardise=orthanc).eval(), classes


class _Torchvision(nn.Module):
    """Grey images in, labels from 0 out."""

    def __init__(self, network: Any, background: int, *, standardise: bool) -> None:
        super().__init__()
        self.network = network
        self._background, self._standardise = background, standardise

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        if self._standardise:
            images = (images - images.mean((1, 2, 3), keepdim=True)) / images.std((1, 2, 3), keepdim=True).clamp(
                min=1e-6
            )
        found = self.network(list(images.expand(-1, 3, -1, -1)))
        return [{**one, "labels": one["labels"] - self._background} for one in found]
