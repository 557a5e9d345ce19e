"""How weights move: optimiser, learning rate over time, averaged weights."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mammoscope.training.recipe import OptimiserSection, ScheduleSection

_NORMS = (nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
_BACKBONES = (".backbone.body.", ".backbone.bottom_up.")
"""By torchvision's and by Detectron2's names."""


def build_optimiser(detector: nn.Module, section: OptimiserSection) -> torch.optim.Optimizer:
    """SGD or AdamW; the backbone has its own learning rate.

    Norms have no weight decay, in AdamW biases have none either; as in Detectron2.
    """
    norms = {id(own) for part in detector.modules() if isinstance(part, _NORMS) for own in part.parameters()}
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            decays = id(parameter) not in norms if section.kind == "sgd" else parameter.ndim > 1
            in_backbone = any(of in name for of in _BACKBONES)
            groups.setdefault((in_backbone, decays), []).append(parameter)
    described = [
        {
            "params": parameters,
            "lr": section.learning_rate * (section.backbone_factor if in_backbone else 1.0),
            "weight_decay": section.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]
    if section.kind == "sgd":
        return torch.optim.SGD(described, lr=section.learning_rate, momentum=section.momentum)
    return torch.optim.AdamW(described, lr=section.learning_rate)


def learning_rate_factor(section: ScheduleSection, iteration: int, minutes: float) -> float:
    """What the learning rate is multiplied by at an iteration (from 0), that many minutes into the run."""
    progress = progress_of(section, iteration, minutes)
    warm = min(1.0, (iteration + 1) / section.warmup) if section.warmup else 1.0
    if section.decay == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * progress))
    # Not progress times iterations: rounding would put a step off by one.
    reached = max(float(iteration), _by_minutes(section, minutes) * section.iterations)
    passed = sum(reached >= milestone for milestone in section.milestones)
    return float(warm * section.factor**passed)


def progress_of(section: ScheduleSection, iteration: int, minutes: float) -> float:
    """From 0 to 1, by iterations or by the budget of minutes, whichever is further on."""
    return min(1.0, max(iteration / section.iterations, _by_minutes(section, minutes)))


def _by_minutes(section: ScheduleSection, minutes: float) -> float:
    return minutes / section.minutes if section.minutes else 0.0


class AveragedWeights:
    """Exponential moving average of a detector's state (Polyak averaging), shorter while the run is young."""

    def __init__(self, detector: nn.Module, decay: float) -> None:
        self._decay = decay
        self.state: dict[str, Tensor] = {name: value.detach().clone() for name, value in detector.state_dict().items()}

    @torch.no_grad()
    def update(self, detector: nn.Module, iteration: int) -> None:
        """Take in the weights after an iteration (from 0)."""
        decay = min(self._decay, (1 + iteration) / (10 + iteration))
        for name, value in detector.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no number in them is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
