"""Several processes that train as one, through accelerate."""

from datetime import timedelta

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import InitProcessGroupKwargs, broadcast

_PATIENCE = timedelta(hours=2)
"""How long processes wait for the first, which prepares the data and validates alone."""


def start() -> Accelerator:
    """The processes that ``accelerate launch`` started, or this one alone; precision is the recipe's business."""
    return Accelerator(mixed_precision="no", kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)])


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return bool(PartialState().is_main_process)


def end() -> None:
    """Let the processes part in peace."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def of_the_first(accelerator: Accelerator, value: float) -> float:
    """The first process's value, in every process."""
    if accelerator.num_processes == 1:
        return value
    # Some GPUs' backends have no 64 bits; nothing here needs them.
    return float(broadcast(torch.tensor(value, dtype=torch.float32, device=accelerator.device)))


def mean_over_all(accelerator: Accelerator, values: torch.Tensor) -> torch.Tensor:
    """The mean over all processes, in every process."""
    reduced: torch.Tensor = accelerator.reduce(values, reduction="mean")
    return reduced
