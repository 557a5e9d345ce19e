"""Trained networks of other programs as detectors of ours: whose they are is told by their tensors' names."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from torch import Tensor, nn

from mammoscope.detectors.backbones import WeightsError
from mammoscope.detectors.checkpoint_reader import read_tensors
from mammoscope.detectors.detectron2.config import read_configuration
from mammoscope.detectors.detectron2.import_weights import load_detectron2
from mammoscope.detectors.torchvision import is_retinanet_v2, load_torchvision

UNUSED = "-"
"""The name of a class whose detections are left out."""


class Origin(StrEnum):
    """Programs whose checkpoints can be imported."""

    DETECTRON2 = "detectron2"
    TORCHVISION = "torchvision"
    ORTHANC_MAMMOGRAPHY = "orthanc-mammography"


@dataclass(frozen=True, slots=True, eq=False)
class ForeignDetector:
    """A trained network of another program.

    Parameters
    ----------
    network
        Takes grey images and gives detections as `MassDetector` does in use.
    classes
        Of the labels it gives.
    short_side, long_side
        To which its images were resized: to that shorter side, but no longer than the second; a long side of ``None``
        has no such bound, a short side of ``None`` makes the long side the only measure.
    """

    network: nn.Module
    origin: Origin
    classes: tuple[str, ...]
    short_side: int | None
    long_side: int | None


def read_foreign(
    checkpoint: Path,
    *,
    configuration: Path | None = None,
    origin: Origin | None = None,
    classes: Sequence[str] | None = None,
    norm_epsilon: float = 1e-5,
) -> ForeignDetector:
    """Read a checkpoint of Detectron2, torchvision or orthanc-mammography.

    Parameters
    ----------
    configuration
        Detectron2's ``config.yaml``; with its checkpoints only.
    origin
        ``None``: told by the tensors' names.
    classes
        A name for each class of the network, without the background; `UNUSED` leaves one out, equal names make one
        class of several. ``None``: ``Mass`` where there is but one.
    norm_epsilon
        Of torchvision's batch norms. Its COCO weights, and what was fine-tuned from them, have 0.

    Raises
    ------
    WeightsError
        If the files cannot be read, do not fit each other, or are of another network.
    """
    tensors = read_tensors(checkpoint)
    origin = origin or _recognised(tensors, checkpoint)
    if origin is Origin.DETECTRON2:
        if configuration is None:
            raise WeightsError(
                f"{checkpoint} is a checkpoint of Detectron2: give its configuration with --config config.yaml"
            )
        config = read_configuration(configuration)
        network: nn.Module = load_detectron2(config.spec, tensors, checkpoint)
        count, default = len(config.spec.classes), ["Mass"]
        sides: tuple[int | None, int | None] = (config.short_side, config.long_side)
    else:
        if configuration is not None:
            raise WeightsError(f"{checkpoint} is no checkpoint of Detectron2: leave out --config")
        orthanc = origin is Origin.ORTHANC_MAMMOGRAPHY
        network, count = load_torchvision(tensors, checkpoint, norm_epsilon, orthanc=orthanc)
        default = ["Mass"] * (2 if orthanc else 1)
        # The plugin's rows; torchvision's own resizing.
        sides = (None, 2048) if orthanc else (800, 1333)
    names = list(classes) if classes is not None else default
    if len(names) != count:
        raise WeightsError(
            f"{checkpoint} has {count} classes, not {len(names)}: name each with --classes, separated by commas, and "
            f"write {UNUSED} for one to leave out"
        )
    kept = tuple(dict.fromkeys(name for name in names if name != UNUSED))
    if not kept:
        raise WeightsError("no class is left: name at least one with --classes")
    return ForeignDetector(_Renamed(network, names, kept).eval(), origin, kept, *sides)


def _recognised(tensors: dict[str, Tensor], checkpoint: Path) -> Origin:
    if any(name.startswith("backbone.bottom_up.") for name in tensors):
        return Origin.DETECTRON2
    if is_retinanet_v2(tensors) and tensors["head.classification_head.cls_logits.bias"].shape == (18,):
        raise WeightsError(
            f"{checkpoint} may be torchvision's RetinaNet v2 or orthanc-mammography's, which differ in how images are "
            "prepared only: say which with --layout torchvision or --layout orthanc-mammography"
        )
    if any(name.startswith("backbone.body.") for name in tensors):
        return Origin.TORCHVISION
    raise WeightsError(
        f"{checkpoint} is no checkpoint of a detector that can be imported (Detectron2, torchvision, "
        f"orthanc-mammography): its first tensor is {next(iter(tensors))}"
    )


class _Renamed(nn.Module):
    """Labels as indices into the classes that are kept."""

    def __init__(self, network: nn.Module, names: Sequence[str], kept: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self._plain = list(names) == list(kept)
        indices = [kept.index(name) if name in kept else -1 for name in names]
        self.register_buffer("indices", torch.tensor(indices), persistent=False)
        self.indices: Tensor

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        found: list[dict[str, Tensor]] = self.network(images)
        if self._plain:
            return found
        renamed = []
        for one in found:
            labels = self.indices[one["labels"]]
            kept = labels >= 0
            renamed.append({"boxes": one["boxes"][kept], "scores": one["scores"][kept], "labels": labels[kept]})
        return renamed
