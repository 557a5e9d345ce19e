"""Tensors by name from untrusted checkpoints: nothing in such a file is run."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammoscope.detectors.backbones import WeightsError

# numpy's own rebuilders, by the way numpy itself pickles: their module has had more than one name.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_FROM_BUFFER: Any = np.zeros(1).__reduce_ex__(5)[0]
_WRAPPINGS = ("model", "state_dict", "model_state_dict", "blobs")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` (PyTorch) or ``.pkl`` (Detectron2's model zoo, numpy arrays) file.

    Both are pickles, which could run any program. PyTorch's are read by its loader for weights only, numpy's by one
    that admits arrays and plain containers.

    Raises
    ------
    WeightsError
        If the file cannot be read, holds anything but arrays, or no network's state.
    """
    try:
        content = _read_pickle(path) if path.suffix == ".pkl" else _read_torch(path)
    except OSError as error:
        raise WeightsError(f"the checkpoint {path} cannot be opened: {error.strerror}; correct the path") from error
    state = content
    for key in _WRAPPINGS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    tensors = {
        str(name).removeprefix("module."): torch.as_tensor(value)
        for name, value in (state.items() if isinstance(state, dict) else ())
        if isinstance(value, Tensor | np.ndarray) and value.dtype != np.dtype(object)
    }
    if not tensors:
        raise WeightsError(f"{path} holds no state of a network: give the .pth or .pkl that the training wrote")
    return tensors


def _read_torch(path: Path) -> Any:
    # A trainer's own state beside the weights may hold numpy's numbers.
    numbers = [_SCALAR, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
    try:
        with torch.serialization.safe_globals(numbers):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise WeightsError(
            f"{path} is not a PyTorch file of tensors: give the .pth that the training wrote; a file that holds "
            "program objects is not opened"
        ) from error


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as stream:
        try:
            return _ArraysOnly(stream, encoding="latin1").load()
        except WeightsError as error:
            raise WeightsError(f"{path} {error}") from error
        except Exception as error:
            raise WeightsError(
                f"{path} is not a pickle of arrays, as Detectron2's model zoo has them: give the whole .pkl file"
            ) from error


class _ArraysOnly(pickle.Unpickler):
    """A pickle names the functions that rebuild it; only these are given to it."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle calls by that name."""
        if (module.replace("numpy.core", "numpy._core"), name) in _ADMITTED:
            return _ADMITTED[module.replace("numpy.core", "numpy._core"), name]
        raise WeightsError(
            f"holds {module}.{name}, which is no array, and is not opened: ask whoever made it for a .pth"
        )


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as pickles of Python 2 and 3 alike write them."""
    if encoding != "latin1":
        raise ValueError(f"no pickle of arrays encodes as {encoding}")
    return text.encode("latin1")


def _empty_array(_kind: str, _shape: tuple[int, ...], _code: bytes) -> NDArray[np.int8]:
    """What a pickle then fills with type, shape and numbers."""
    return np.empty(0, np.int8)


def _number_type(code: str, *flags: bool) -> np.dtype[Any]:
    """A type of numbers; one of objects could name places in memory."""
    kind = np.dtype(code, *flags)
    if kind.kind not in "fiub":
        raise ValueError(f"weights are no {kind}")
    return kind


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
    # Only ever handed to the one above: called by itself, it would take bytes for objects.
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _number_type,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
}
