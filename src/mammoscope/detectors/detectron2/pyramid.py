"""The feature pyramid (Lin et al. 2017) as Detectron2 builds it, with its tensor names."""

from torch import Tensor, nn
from torch.nn import functional

from mammoscope.detectors.detectron2.resnet import Norm, NormedConv, ResNet

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
