"""A checkpoint made small enough to travel, and made into one to go on with.

Only the weights to validate and export travel, in half precision: an eighth of a checkpoint with averaged weights and
AdamW. A run that goes on from it starts its optimiser's moments anew.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CHECKPOINT, SLIM = "checkpoint.pt", "slim.pt"


def slim(run: Path, out: Path) -> int:
    """Write the slim checkpoint of a run's folder; its iteration."""
    checkpoint: dict[str, Any] = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    state = checkpoint["averaged"] or checkpoint["detector"]
    light = {
        "iteration": checkpoint["iteration"],
        "minutes": checkpoint["minutes"],
        "state": {name: _halved(tensor) for name, tensor in state.items()},
        "averaged": checkpoint["averaged"] is not None,
        "param_groups": checkpoint["optimiser"]["param_groups"],
    }
    torch.save(light, out)
    return int(checkpoint["iteration"])


def expand(slim_file: Path, run: Path) -> None:
    """Write the checkpoint of a run's folder from a slim one."""
    light: dict[str, Any] = torch.load(slim_file, map_location="cpu", weights_only=True)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in light["state"].items()}
    checkpoint = {
        "iteration": light["iteration"],
        "minutes": light["minutes"],
        "detector": state,
        "averaged": state if light["averaged"] else None,
        "optimiser": {"state": {}, "param_groups": light["param_groups"]},
    }
    draft = run / f"{CHECKPOINT}.draft"
    torch.save(checkpoint, draft)
    draft.replace(run / CHECKPOINT)


def _halved(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if bool(torch.isfinite(half).all()) else tensor
