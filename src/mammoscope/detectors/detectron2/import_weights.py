"""Detectron2's trained weights into its networks."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from mammoscope.detectors.backbones import WeightsError
from mammoscope.detectors.detectron2.boxes import Anchors
from mammoscope.detectors.factory import build_detector
from mammoscope.detectors.spec import DetectorSpec

_OWN = "loss_normaliser"
_WITHOUT_SAY = re.compile(r"(^|\.)num_batches_tracked$")
_CELL = re.compile(r"anchor_generator\.cell_anchors\.(\d+)$")


def load_detectron2(spec: DetectorSpec, tensors: dict[str, Tensor], origin: Path) -> nn.Module:
    """The network of a spec with weights by Detectron2's names.

    Raises
    ------
    WeightsError
        If the weights are of another network than the spec's.
    """
    detector = build_detector(spec, load_weights=False).eval()
    network = detector.network
    _check_what_is_not_loaded(network, spec, tensors, origin)
    wanted = {name: value for name, value in network.state_dict().items() if name != _OWN}
    for name, value in wanted.items():
        if name not in tensors:
            raise WeightsError(
                f"{origin} is of another network than its configuration: it has no {name}; give the config.yaml of "
                "that very training"
            )
        if tensors[name].shape != value.shape:
            raise WeightsError(
                f"{origin} is of another network than its configuration: {name} is {_shape(tensors[name])} and not "
                f"{_shape(value)}; give the config.yaml of that very training (NUM_CLASSES, for one)"
            )
    network.load_state_dict({name: tensors[name] for name in wanted}, strict=False)
    return detector


def _check_what_is_not_loaded(network: nn.Module, spec: DetectorSpec, tensors: dict[str, Tensor], origin: Path) -> None:
    """Older checkpoints also hold what the configuration says, which must then be the same."""
    said = {"pixel_mean": spec.detectron2.pixel_mean, "pixel_std": spec.detectron2.pixel_std}
    cells = next(module for module in network.modules() if isinstance(module, Anchors)).cells
    known = network.state_dict().keys()
    for name, value in tensors.items():
        cell = _CELL.search(name)
        if name in known or _WITHOUT_SAY.search(name):
            continue
        if name in said:
            expected: Tensor = torch.tensor(said[name])
        elif cell and int(cell[1]) < len(cells):
            expected = cells[int(cell[1])]
        else:
            raise WeightsError(
                f"{origin} is of another network than its configuration: it also has {name}; give the config.yaml of "
                "that very training"
            )
        if value.numel() != expected.numel() or not torch.allclose(value.float().reshape(expected.shape), expected):
            raise WeightsError(
                f"{origin} and its configuration contradict each other in {name}: give the config.yaml of that very "
                "training"
            )


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
