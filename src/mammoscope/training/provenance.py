"""Which code on which kind of machine made a run; no names of machines, people or folders."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import mammoscope

_PACKAGES = ("accelerate", "numpy", "opencv-python-headless", "timm", "torch", "torchvision")


def provenance(device: torch.device, processes: int) -> dict[str, Any]:
    """Versions, commit and hardware, for ``starts.jsonl``.

    Parameters
    ----------
    device
        What the networks learn on.
    processes
        How many learn together.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "mammoscope": mammoscope.__version__,
        **code_version(Path(mammoscope.__file__).parent),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "processes": processes,
    }


def code_version(package: Path) -> dict[str, Any]:
    """Commit of the checkout that a package runs from, and whether it was modified since; empty without one."""
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(package, "rev-parse", "HEAD")
    # An installed copy may lie inside somebody else's checkout, whose commit says nothing about it.
    if tracked is None or commit is None:
        return {}
    changes = _git(package, "status", "--porcelain", "--", ".")
    return {"commit": commit, "modified": changes != ""}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
