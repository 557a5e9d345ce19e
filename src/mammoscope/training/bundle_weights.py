"""What a run begins with: another run's weights, or those of a bundle, as where its run's folder is gone.

The exporter keeps the names of most tensors. Norms are folded into products and sums that have none: they are found
behind the convolution that each of them follows.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mammoscope.detectors import MassDetector
from mammoscope.inference import Bundle, BundleError, shipped_bundle
from mammoscope.training.checkpoint import RunFolder
from mammoscope.training.errors import TrainingError

_ROOT = "detector."
"""Before each name: what the exporter was given holds the detector under it."""
_SCORES_AGREE, _BOXES_AGREE = 0.01, 0.5
"""As an export is checked: scores, and pixels of boxes."""
_PICTURES = 3
_DOWNSTREAM = 12
"""Nodes between a convolution and the sum that ends its group norm, at most."""


_SHIPPED = Path("shipped")
"""As a start: the bundle that comes with Mammoscope."""


def begin_with(detector: MassDetector, start: Path) -> None:
    """Put the weights that a recipe's ``start`` names into a fresh detector.

    Raises
    ------
    TrainingError
        If there is no such run or bundle, or it is of another detector.
    """
    if start == _SHIPPED:
        start = shipped_bundle()
    if start.suffix == ".onnx":
        load_bundle_weights(detector, start)
        return
    try:
        detector.load_state_dict(RunFolder(start).chosen_state()[0])
    except RuntimeError as error:
        raise TrainingError(
            f"the run {start} trained another detector than this recipe's: give start a run with the same [detector], "
            "or take the line out"
        ) from error


def load_bundle_weights(detector: MassDetector, file: Path) -> None:
    """Put a bundle's weights into a detector of the same kind.

    Raises
    ------
    TrainingError
        If the file is no bundle, several networks are fused in it, or it is of another detector.
    """
    try:
        bundle = Bundle.open(file, threads=1)
        model = onnx.load(str(file))
    except BundleError as error:
        raise TrainingError(f"start: {error}") from error
    initialisers = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in model.graph.initializer}
    state = detector.state_dict()
    found = {}
    for name, value in state.items():
        given = initialisers.get(_ROOT + name)
        if given is None and name.rpartition(".")[0] in _group_norms(detector):
            given = _folded_norm(model.graph, initialisers, name)
        if given is None or given.shape != value.shape:
            raise TrainingError(
                f"start: the bundle {file} holds another detector than this recipe's ({name} is not in it, or of "
                "another shape): give the bundle of one run with the same [detector]"
            )
        found[name] = given
    detector.load_state_dict(found)
    _check(detector, bundle)


def _group_norms(detector: MassDetector) -> set[str]:
    return {name for name, module in detector.named_modules() if isinstance(module, nn.GroupNorm)}


def _folded_norm(graph: onnx.GraphProto, initialisers: dict[str, Tensor], name: str) -> Tensor | None:
    """Weight or bias of a group norm: what is multiplied with or added to the output of the layer before it."""
    norm, _, part = name.rpartition(".")
    block, _, number = norm.rpartition(".")
    weight = f"{_ROOT}{block}.{int(number) - 1}.weight"
    node = next((node for node in graph.node if node.op_type == "Conv" and node.input[1] == weight), None)
    wanted = {"weight": "Mul", "bias": "Add"}[part]
    for _ in range(_DOWNSTREAM):
        if node is None:
            return None
        node = next((n for n in graph.node if node.output[0] in n.input and n.op_type != "Shape"), None)
        if node is not None and node.op_type == wanted:
            constants = [initialisers[given] for given in node.input if given in initialisers]
            if constants and constants[0].ndim == 3:
                return constants[0].flatten()
    return None


def _check(detector: MassDetector, bundle: Bundle) -> None:
    """Compare network and bundle on drawn pictures: weights found in the wrong place would not be noticed else."""
    rows, columns = bundle.metadata.input.rows, bundle.metadata.input.columns
    draw = torch.Generator().manual_seed(0)
    # Blobs rather than noise: a detector should find something to be compared.
    coarse = torch.rand(_PICTURES, 1, rows // 32, columns // 32, generator=draw)
    pictures = interpolate(coarse, (rows, columns), mode="bicubic").clamp(0, 1)
    was_training = detector.training
    with torch.no_grad():
        found = detector.eval()(pictures)
    detector.train(was_training)
    for picture, ours in zip(pictures, found, strict=True):
        boxes, scores, _ = bundle.run(picture[0].numpy())
        if len(scores) == len(ours["scores"]) and (
            not len(scores)
            or (
                np.abs(scores - ours["scores"].numpy()).max() < _SCORES_AGREE
                and np.abs(boxes - ours["boxes"].numpy()).max() < _BOXES_AGREE
            )
        ):
            continue
        raise TrainingError(
            f"start: the weights of the bundle {bundle.path} do not give its detections in this recipe's detector: "
            "give the recipe the bundle's [detector]"
        )
