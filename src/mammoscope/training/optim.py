"""How weights move: optimiser, learning rate over time, averaged weights.

Automatic mixed precision: the network in 16 bits, weights, losses and boxes in 32.
"""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mammoscope.detectors import MassDetector
from mammoscope.training.errors import TrainingError
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
        return torch.optim.SGD(described, lr=section.learning_rate, momentum=section.momentum, fused=True)
    return torch.optim.AdamW(described, lr=section.learning_rate, fused=True)


@dataclass(frozen=True, slots=True)
class Course:
    """How far along its schedule a run is, by steps or by its budget of minutes, whichever is further on.

    A run resumed with another budget than it began with has a new course from there: what is left of the schedule
    is stretched or pressed into what is left of the budget, so that the learning rate neither jumps nor ends high.

    Parameters
    ----------
    iterations, minutes
        The budget; ``None`` for no budget of time.
    from_iteration, from_minutes, from_progress
        Where this course began.
    """

    iterations: int
    minutes: float | None
    from_iteration: int = 0
    from_minutes: float = 0.0
    from_progress: float = 0.0

    @classmethod
    def of(cls, section: ScheduleSection) -> "Course":
        """That of a run from its start."""
        return cls(section.iterations, section.minutes)

    def progress(self, iteration: int, minutes: float) -> float:
        """From 0 to 1."""
        done = _part(iteration - self.from_iteration, self.iterations - self.from_iteration)
        if self.minutes is not None:
            done = max(done, _part(minutes - self.from_minutes, self.minutes - self.from_minutes))
        return min(1.0, self.from_progress + (1 - self.from_progress) * done)

    def going_on(self, section: ScheduleSection, iteration: int, minutes: float) -> "Course":
        """The same, or a new one from here where the budget has changed since."""
        if (section.iterations, section.minutes) == (self.iterations, self.minutes):
            return self
        return Course(section.iterations, section.minutes, iteration, minutes, self.progress(iteration, minutes))


def _part(done: float, whole: float) -> float:
    return done / whole if whole > 0 else 1.0


def learning_rate_factor(section: ScheduleSection, course: Course, iteration: int, minutes: float) -> float:
    """What the learning rate is multiplied by at an iteration (from 0), that many minutes into the run."""
    progress = course.progress(iteration, minutes)
    warm = min(1.0, (iteration + 1) / section.warmup) if section.warmup else 1.0
    if section.decay == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * progress))
    # Not progress times iterations: rounding would put a step off by one.
    reached = float(iteration) if progress == iteration / section.iterations else progress * section.iterations
    passed = sum(reached >= milestone for milestone in section.milestones)
    return float(warm * section.factor**passed)


class AveragedWeights:
    """Exponential moving average of a detector's state (Polyak averaging), shorter while the run is young."""

    def __init__(self, detector: nn.Module, decay: float) -> None:
        self._decay = decay
        self.state: dict[str, Tensor] = {name: value.detach().clone() for name, value in detector.state_dict().items()}

    @torch.no_grad()
    def update(self, detector: nn.Module, iteration: int) -> None:
        """Take in the weights after an iteration (from 0)."""
        decay = min(self._decay, (1 + iteration) / (10 + iteration))
        now = detector.state_dict()
        moving = [name for name, value in now.items() if value.is_floating_point()]
        # A handful of kernels for all tensors together instead of one for each.
        torch._foreach_lerp_([self.state[name] for name in moving], [now[name] for name in moving], 1 - decay)
        for name, value in now.items():
            if not value.is_floating_point():
                self.state[name].copy_(value)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no number in them is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MOST_SKIPPED = 30
"""Each skipped step halves the loss's scale, which starts at 2**16: after so many it is not the scale's fault."""
_WHERE_BOXES_BEGIN = ("head", "network.head", "rpn.head", "roi_heads.box_predictor")


def precision_on(device: torch.device, precision: str) -> str:
    """What a recipe's precision comes to: a CPU, which is slower in 16 bits, trains in fp32 whatever it says."""
    return "fp32" if device.type == "cpu" else precision


class MixedPrecision:
    """Forward passes, backward passes and steps in a recipe's precision.

    ``fp16`` scales the loss so that small gradients survive (Micikevicius et al. 2018); a step whose gradient overflows
    is skipped and the scale halved, which happens to every run now and then.

    Raises
    ------
    TrainingError
        If the GPU cannot compute in that precision.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise TrainingError('this GPU cannot compute in bf16: give schedule.precision = "fp16" or "fp32"')
        self._dtype = _DTYPES[precision]
        self._device = device
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._skipped = 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Where the network computes in this precision."""
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to go backward from."""
        return self._scaler.scale(loss)

    def step(self, optimiser: torch.optim.Optimizer, clip_norm: float | None) -> None:
        """An optimiser step by the gradients' true size, clipped to a norm.

        Raises
        ------
        TrainingError
            If step after step had to be skipped.
        """
        self._scaler.unscale_(optimiser)
        if clip_norm:
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, clip_norm, foreach=True)
        before = self._scaler.get_scale()
        self._scaler.step(optimiser)
        self._scaler.update()
        self._skipped = self._skipped + 1 if self._scaler.get_scale() < before else 0
        if self._skipped >= _MOST_SKIPPED:
            raise TrainingError(f"the gradient was no number in the last {self._skipped} steps")

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; empty without a scale."""
        return self._scaler.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        if state:
            self._scaler.load_state_dict(state)


def keep_boxes_precise(detector: MassDetector) -> None:
    """Hand on what a head says in 32 bits: bf16 knows no pixel between 512 and 516, so no box may be made in it."""
    for name, module in detector.network.named_modules():
        if name in _WHERE_BOXES_BEGIN:
            module.register_forward_hook(lambda _module, _inputs, output: _as_float(output))


def _as_float(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, dict):
        return {name: _as_float(value) for name, value in output.items()}
    return type(output)(_as_float(value) for value in output)
