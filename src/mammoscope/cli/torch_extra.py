"""The one sentence for a command that needs torch where the core alone is installed."""

import importlib.util

from mammoscope.errors import MammoscopeError


def needs_torch(command: str) -> None:
    """Raise `MammoscopeError` when the extra ``train`` is not installed."""
    missing = [
        name
        for name in ("torch", "torchvision", "timm", "accelerate", "onnx")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise MammoscopeError(
            f"'mammoscope {command}' needs {', '.join(missing)}, which the core does not install: run "
            "pip install '.[train]' in Mammoscope's source folder"
        )
