"""Whether the network really needs what a map shows: deletion and insertion (Petsiuk et al. 2018).

Bundles with shuffled weights: what an explanation of a model that has learned nothing looks like.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoscope.explain.drise import Pixels, Similarity, smooth_tissue
from mammoscope.explain.heat_map import ExplainError
from mammoscope.inference import Bundle

_STEPS = 10


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Areas under the curves of similarity over the share of pixels, where the whole picture's similarity is 1.

    Parameters
    ----------
    deletion
        Pixels are hidden, those with the highest values first: low where the map is faithful.
    insertion
        Pixels are shown, those with the highest values first: high where the map is faithful.
    """

    deletion: float
    insertion: float


def faithfulness(values: NDArray[np.floating], pixels: Pixels, similarity: Similarity, seed: int = 0) -> Faithfulness:
    """Deletion and insertion of one map.

    Hidden pixels are filled as D-RISE fills them. The shares grow with the square of the step, 1 % first, for
    a mass is a small part of a mammogram.

    Parameters
    ----------
    values, pixels
        The map and the prepared picture, both of shape (rows, columns).
    similarity
        To one finding, or to several of which the first counts.
    seed
        Decides which of several pixels with the same value goes first.
    """
    filling = smooth_tissue(pixels)
    tie = np.random.default_rng(seed).permutation(values.size)
    order = np.lexsort((tie, -values.ravel()))
    place: NDArray[np.intp] = np.argsort(order).reshape(values.shape)
    whole, nothing = float(similarity(pixels)[0]), float(similarity(filling)[0])
    shares = [(step / _STEPS) ** 2 for step in range(_STEPS + 1)]
    deleted, inserted = [whole], [nothing]
    for share in shares[1:-1]:
        first = place < round(share * values.size)
        deleted.append(float(similarity(np.where(first, filling, pixels))[0]))
        inserted.append(float(similarity(np.where(first, pixels, filling))[0]))
    deleted.append(nothing)
    inserted.append(whole)
    if whole <= 0:
        return Faithfulness(0.0, 0.0)
    return Faithfulness(_area(shares, deleted) / whole, _area(shares, inserted) / whole)


def _area(x: list[float], y: list[float]) -> float:
    return sum((b - a) * (c + d) / 2 for a, b, c, d in zip(x, x[1:], y, y[1:], strict=False))


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
