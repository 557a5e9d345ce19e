"""ImageNet weights of three origins under Detectron2's names."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from mammoscope.detectors.backbones import WeightsError, imagenet_state
from mammoscope.detectors.checkpoint_files import read_tensors
from mammoscope.detectors.spec import DetectorSpec

_TORCHVISION = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer1\.", "res2."),
    (r"^layer2\.", "res3."),
    (r"^layer3\.", "res4."),
    (r"^layer4\.", "res5."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)
_CAFFE2 = (
    (r"^(res_)?conv1_", "stem.conv1."),
    (r"^(res\d)_(\d+)_", r"\1.\2."),
    (r"branch1_", "shortcut."),
    (r"branch2a_", "conv1."),
    (r"branch2b_", "conv2."),
    (r"branch2c_", "conv3."),
    (r"bn_s$", "norm.weight"),
    (r"bn_b$", "norm.bias"),
    (r"\.w$", ".weight"),
)


def load_pretrained(resnet: nn.Module, spec: DetectorSpec) -> None:
    """Load the weights a spec names: torchvision's, MSRA's ``.pkl``, or Detectron2's own names.

    Raises
    ------
    WeightsError
        If they cannot be had or do not fit.
    """
    state = read_tensors(spec.weights) if isinstance(spec.weights, Path) else imagenet_state(spec)
    state = _renamed(state)
    wanted = resnet.state_dict()
    for name, value in wanted.items():
        # Caffe's affine norms have no statistics: they were folded into weight and bias.
        if name.endswith("norm.running_mean"):
            state.setdefault(name, torch.zeros_like(value))
        elif name.endswith("norm.running_var"):
            state.setdefault(name, torch.ones_like(value) - 1e-5)
    missing = [name for name, value in wanted.items() if name not in state or state[name].shape != value.shape]
    if missing:
        raise WeightsError(
            f"the weights {spec.weights} do not fit {spec.backbone}: {len(missing)} of its tensors are missing or of "
            f"another shape, the first is {missing[0]}; give the weights of that network"
        )
    resnet.load_state_dict({name: state[name] for name in wanted})


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    rules: tuple[tuple[str, str], ...] = ((r"^backbone\.bottom_up\.", ""),)
    if "conv1_w" in state:
        rules = _CAFFE2
    elif "layer1.0.conv1.weight" in state:
        rules = _TORCHVISION
    renamed = {}
    for name, value in state.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        renamed[new] = value
    return renamed
