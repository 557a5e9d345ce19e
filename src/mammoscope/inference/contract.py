"""What an ONNX file lacks of a bundle: the contract of ``docs/reference/bundle.md``, checked."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscope.inference.bundle import METADATA_KEY, Bundle, BundleError

if TYPE_CHECKING:
    import onnxruntime

INPUT = "image"
UNIT = 32
"""The input's sides are multiples of it."""
OUTPUTS = {"boxes": "(n, 4)", "scores": "(n,)", "labels": "(n,)"}
"""Shape by the name of each output."""
_TYPES = {"boxes": ("tensor(float)",), "scores": ("tensor(float)",), "labels": ("tensor(int64)", "tensor(int32)")}
_RANKS = {"boxes": 2, "scores": 1, "labels": 1}


def what_lacks(file: Path) -> list[str]:
    """Every point in which a file does not keep the bundle's contract, a sentence each; none for a bundle.

    Raises
    ------
    BundleError
        If it is not a model that can be run at all.
    """
    session = open_model(file)
    lacks = [*_of_the_input(session), *_of_the_outputs(session)]
    if METADATA_KEY not in session.get_modelmeta().custom_metadata_map:
        lacks.append(f"it has no metadata under the key '{METADATA_KEY}': 'mammoscope import-onnx' writes them")
    else:
        try:
            bundle = Bundle.open(file, threads=1)
        except BundleError as error:
            lacks.append(str(error))
        else:
            if not lacks:
                lacks += _of_a_run(bundle)
    return lacks


def open_model(file: Path) -> "onnxruntime.InferenceSession":
    """An ONNX file, bundle or not, on one thread.

    Raises
    ------
    BundleError
        If it is not there or cannot be run.
    """
    if not file.is_file():
        raise BundleError(f"there is no file {file}: give the path of an ONNX file")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no public base of its errors
        raise BundleError(f"{file} is not an ONNX model that a CPU runs") from error


def _of_the_input(session: Any) -> list[str]:
    inputs = session.get_inputs()
    if [one.name for one in inputs] != [INPUT]:
        return [f"its one input is called '{INPUT}', not {', '.join(repr(one.name) for one in inputs)}"]
    (only,) = inputs
    lacks = []
    fixed = len(only.shape) == 4 and all(isinstance(side, int) for side in only.shape)
    if not fixed or only.shape[:2] != [1, 1]:
        lacks.append(f"its input has the shape (1, 1, rows, columns) with fixed sides, not {_shape(only.shape)}")
    elif any(side < UNIT or side % UNIT for side in only.shape[2:]):
        lacks.append(f"its input's sides are multiples of {UNIT}, not {only.shape[2]} x {only.shape[3]}")
    if only.type != "tensor(float)":
        lacks.append(f"its input is of float32, not of {only.type}")
    return lacks


def _of_the_outputs(session: Any) -> list[str]:
    outputs = {one.name: one for one in session.get_outputs()}
    lacks = [f"it has no output '{name}' of shape {shape}" for name, shape in OUTPUTS.items() if name not in outputs]
    for name in OUTPUTS.keys() & outputs.keys():
        one = outputs[name]
        if one.type not in _TYPES[name]:
            lacks.append(f"its output '{name}' is of {' or '.join(_TYPES[name])}, not of {one.type}")
        if one.shape and len(one.shape) != _RANKS[name]:
            lacks.append(f"its output '{name}' has the shape {OUTPUTS[name]}, not {_shape(one.shape)}")
    return lacks


def _shape(shape: list[Any]) -> str:
    return f"({', '.join(str(side) for side in shape)})"


def _of_a_run(bundle: Bundle) -> list[str]:
    """What a picture of noise and a bright disc brings to light."""
    size = bundle.metadata.input
    y, x = np.mgrid[: size.rows, : size.columns]
    disc = np.hypot(y - size.rows / 2, x - size.columns / 2) < min(size.rows, size.columns) / 8
    picture = np.random.default_rng(0).uniform(0, 0.2, disc.shape) + 0.6 * disc
    try:
        boxes, scores, labels = bundle.run(picture.astype(np.float32))
    except Exception as error:
        return [f"it does not run on a picture: {str(error).splitlines()[0][:200]}"]
    lacks = []
    if boxes.ndim != 2 or boxes.shape[1:] != (4,) or {len(boxes)} != {len(scores), len(labels)}:
        lacks.append(f"its outputs do not belong together: shapes {boxes.shape}, {scores.shape}, {labels.shape}")
    if not np.isfinite(boxes).all():
        lacks.append("its boxes are not all finite numbers")
    if len(scores) and not ((scores >= 0) & (scores <= 1)).all():
        lacks.append(f"its scores lie between 0 and 1, not between {scores.min():.3g} and {scores.max():.3g}")
    if len(labels) and not ((labels >= 0) & (labels < len(bundle.metadata.classes))).all():
        lacks.append(
            f"its labels are indices of {len(bundle.metadata.classes)} classes, from 0, and go to {labels.max()}"
        )
    if len(boxes) and np.abs(boxes).max() <= 1.5:
        lacks.append("its boxes are in pixels of the input, and these lie between 0 and 1")
    return lacks
