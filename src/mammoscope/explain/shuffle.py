"""Bundles with shuffled weights: what an explanation of a model that has learned nothing looks like."""

import importlib.util
from pathlib import Path

import numpy as np

from mammoscope.explain.errors import ExplainError
from mammoscope.inference import Bundle

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def shuffled_bundle(bundle: Bundle, out: Path, *, only: str = "", seed: int = 0) -> Bundle:
    """A copy of a bundle whose weights are shuffled within each of their tensors (Adebayo et al. 2018).

    Shuffled rather than drawn anew, so that every layer's values keep their size.

    Parameters
    ----------
    out
        Where the copy is written.
    only
        Shuffle only tensors with this in their names, for example ``"head"``.

    Raises
    ------
    ExplainError
        If the package ``onnx`` is not installed, or no tensor has such a name.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ExplainError(
            "shuffling a bundle's weights needs the package onnx, which the core does not install: run "
            "pip install '.[train]' in Mammoscope's source folder"
        )
    import onnx

    model = onnx.load(str(bundle.path))
    used = {name for node in model.graph.node if node.op_type in _WEIGHTED for name in node.input[1:]}
    rng = np.random.default_rng(seed)
    shuffled = 0
    for tensor in model.graph.initializer:
        if tensor.name in used and only in tensor.name:
            values = onnx.numpy_helper.to_array(tensor)
            order = rng.permutation(values.size)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.ravel()[order].reshape(values.shape), tensor.name))
            shuffled += 1
    if not shuffled:
        raise ExplainError(f"{bundle.path} has no weights with '{only}' in their names")
    onnx.save(model, str(out))
    return Bundle.open(out)
