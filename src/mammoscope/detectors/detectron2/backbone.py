"""ResNet (He et al. 2015) as Detectron2 builds it, with its tensor names.

The feature pyramid (Lin et al. 2017) as Detectron2 builds it, with its tensor names.

ImageNet weights of three origins under Detectron2's names.

Grey images of our kind as the pictures that Detectron2's weights expect.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from mammoscope.detectors.backbones import WeightsError, imagenet_state
from mammoscope.detectors.checkpoint_reader import read_tensors
from mammoscope.detectors.spec import Backbone, DetectorSpec

Norm = Callable[[int], nn.Module]

_BLOCKS = {Backbone.RESNET50: (3, 4, 6, 3), Backbone.RESNET101: (3, 4, 23, 3)}
STAGES = ("stem", "res2", "res3", "res4", "res5")


def group_norm(channels: int) -> nn.GroupNorm:
    """Detectron2's ``"GN"``: 32 groups."""
    return nn.GroupNorm(32, channels)


class NormedConv(nn.Conv2d):
    """A convolution that holds the norm behind it as its child ``norm``, if there is one."""

    def __init__(
        self, inward: int, outward: int, kernel: int, *, stride: int = 1, norm: Norm | None = None, bias: bool = False
    ) -> None:
        super().__init__(inward, outward, kernel, stride=stride, padding=kernel // 2, bias=bias)
        self.norm = norm(outward) if norm else None

    def forward(self, features: Tensor) -> Tensor:
        """Convolve, then normalise."""
        convolved = super().forward(features)
        return convolved if self.norm is None else self.norm(convolved)


class ResNet(nn.Module):
    """The stages ``res2`` to ``res5`` (strides 4 to 32) by name.

    Parameters
    ----------
    channels
        Of the picture.
    frozen_stages
        How many stages do not learn, the stem first.
    stride_in_1x1
        Whether a stage's stride is in the bottleneck's first convolution, as in Caffe's weights from MSRA, or in
        its second, as in torchvision's.
    """

    def __init__(
        self, backbone: Backbone, channels: int, norm: Norm, *, frozen_stages: int, stride_in_1x1: bool
    ) -> None:
        super().__init__()
        self.stem = _Stem(channels, norm)
        inward = 64
        for number, blocks in enumerate(_BLOCKS[backbone]):
            width = 64 * 2**number
            strides = [1 if number == 0 else 2] + [1] * (blocks - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(_Bottleneck(inward, width, stride, norm, stride_in_1x1=stride_in_1x1))
                inward = width * 4
            self.add_module(f"res{number + 2}", stage)
        self.apply(_initialise)
        for name in STAGES[:frozen_stages]:
            getattr(self, name).requires_grad_(False)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Features by stage from a picture (n, channels, rows, columns)."""
        features = self.stem(picture)
        found = {}
        for name in STAGES[1:]:
            features = getattr(self, name)(features)
            found[name] = features
        return found


class _Stem(nn.Module):
    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = NormedConv(channels, 64, 7, stride=2, norm=norm)

    def forward(self, picture: Tensor) -> Tensor:
        return functional.max_pool2d(functional.relu(self.conv1(picture)), kernel_size=3, stride=2, padding=1)


class _Bottleneck(nn.Module):
    def __init__(self, inward: int, width: int, stride: int, norm: Norm, *, stride_in_1x1: bool) -> None:
        super().__init__()
        outward = width * 4
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = NormedConv(inward, outward, 1, stride=stride, norm=norm) if inward != outward else None
        self.conv1 = NormedConv(inward, width, 1, stride=first, norm=norm)
        self.conv2 = NormedConv(width, width, 3, stride=second, norm=norm)
        self.conv3 = NormedConv(width, outward, 1, norm=norm)

    def forward(self, features: Tensor) -> Tensor:
        inner = functional.relu(self.conv1(features))
        inner = functional.relu(self.conv2(inner))
        around = features if self.shortcut is None else self.shortcut(features)
        return functional.relu(self.conv3(inner) + around)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def frozen_batch_norm(channels: int) -> FrozenBatchNorm2d:
    """Detectron2's ``"FrozenBN"``."""
    return FrozenBatchNorm2d(channels)


_C5_CHANNELS = 2048


class Pyramid(nn.Module):
    """A ResNet and the pyramid on its stages; maps by name, finest first.

    Parameters
    ----------
    stages
        The ResNet's stages that the pyramid reads, finest first; the last is ``res5``.
    top
        Makes the coarser levels: `PooledTop` (Faster R-CNN) or `ConvolvedTop` (RetinaNet).
    """

    def __init__(
        self, bottom_up: ResNet, stages: tuple[str, ...], channels: int, norm: Norm | None, top: nn.Module
    ) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.out_channels = channels
        self._stages = stages
        for stage in stages:
            inward = _C5_CHANNELS // 2 ** (5 - _number(stage))
            for name, (of, kernel) in {"lateral": (inward, 1), "output": (channels, 3)}.items():
                convolution = NormedConv(of, channels, kernel, norm=norm, bias=norm is None)
                xavier(convolution)
                self.add_module(f"fpn_{name}{_number(stage)}", convolution)
        self.top_block = top

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Maps ``p2`` or ``p3`` and up of a picture (n, channels, rows, columns), sides multiples of 32."""
        features = self.bottom_up(picture)
        maps: dict[str, Tensor] = {}
        coarser: Tensor | None = None
        for stage in reversed(self._stages):
            number = _number(stage)
            merged = self.get_submodule(f"fpn_lateral{number}")(features[stage])
            if coarser is not None:
                merged = merged + functional.interpolate(coarser, scale_factor=2.0, mode="nearest")
            coarser = merged
            maps[f"p{number}"] = self.get_submodule(f"fpn_output{number}")(merged)
        found = {name: maps[name] for name in reversed(maps)}
        coarsest: dict[str, Tensor] = self.top_block(features["res5"], found["p5"])
        return found | coarsest


class PooledTop(nn.Module):
    """Every second pixel of P5 as P6, for Faster R-CNN's proposals."""

    def forward(self, _c5: Tensor, p5: Tensor) -> dict[str, Tensor]:
        """P6."""
        return {"p6": functional.max_pool2d(p5, kernel_size=1, stride=2)}


class ConvolvedTop(nn.Module):
    """P6 from C5 and P7 from P6, for RetinaNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(_C5_CHANNELS, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        xavier(self.p6)
        xavier(self.p7)

    def forward(self, c5: Tensor, _p5: Tensor) -> dict[str, Tensor]:
        """P6 and P7."""
        p6 = self.p6(c5)
        return {"p6": p6, "p7": self.p7(functional.relu(p6))}


def xavier(layer: nn.Conv2d | nn.Linear) -> None:
    """Caffe2's XavierFill: uniform by the number of inputs, bias 0."""
    nn.init.kaiming_uniform_(layer.weight, a=1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def normal(layer: nn.Conv2d | nn.Linear, deviation: float) -> None:
    """Normal weights, bias 0."""
    nn.init.normal_(layer.weight, std=deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _number(stage: str) -> int:
    return int(stage.removeprefix("res"))


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


class Pictures(nn.Module):
    """From 0 to 1 to 0 to 255, less a mean and over a standard deviation per channel.

    The channels of a grey image are alike, so their order (BGR, RGB) is only that of the means.
    """

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1), persistent=False)
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, images: list[Tensor]) -> Tensor:
        """A batch (n, channels, rows, columns) of images whose first channel is grey, from 0 to 1."""
        grey = torch.stack(images)[:, :1]
        return (grey * 255 - self.mean) / self.deviation
