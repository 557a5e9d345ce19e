"""ResNet (He et al. 2015) as Detectron2 builds it, with its tensor names."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from mammoscope.detectors.spec import Backbone

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
