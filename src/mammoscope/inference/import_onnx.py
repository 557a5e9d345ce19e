"""Any detector in ONNX as a bundle: its input and outputs brought into the contract's form, its metadata written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mammoscope.inference.bundle import METADATA_KEY, BundleError, BundleMetadata
from mammoscope.inference.contract import what_lacks


@dataclass(frozen=True, slots=True)
class OnnxNames:
    """What the network calls its input and outputs; ``None`` for ``labels`` where it has one class and no labels."""

    image: str = "image"
    boxes: str = "boxes"
    scores: str = "scores"
    labels: str | None = "labels"


def input_size(model: Path, names: OnnxNames) -> tuple[int, int] | None:
    """(rows, columns) of the network's input, or ``None`` where they are not fixed.

    Raises
    ------
    BundleError
        If the file is no ONNX model or has no such input.
    """
    sides = [side.dim_value for side in _input(_load(model), model, names).type.tensor_type.shape.dim]
    return (sides[2], sides[3]) if len(sides) == 4 and sides[2] > 0 and sides[3] > 0 else None


def import_onnx(model: Path, out: Path, metadata: BundleMetadata, names: OnnxNames = OnnxNames()) -> None:
    """Write a bundle of an ONNX detector, checked by running it.

    A network of three channels is shown the grey picture three times; outputs with a leading axis of 1 lose it; a
    network without labels gets those of its one class.

    Raises
    ------
    BundleError
        If the file is no ONNX model, lacks an input or output, or does not keep the contract afterwards.
    """
    import onnx

    loaded = _load(model)
    _fit_input(loaded, model, names, metadata)
    _fit_outputs(loaded, model, names, metadata)
    onnx.helper.set_model_props(loaded, {METADATA_KEY: metadata.model_dump_json()})
    loaded.doc_string = f"{metadata.name} {metadata.version}. {metadata.notice}"
    draft = out.with_name(f"{out.name}.unchecked")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(loaded.SerializeToString())
        if lacks := what_lacks(draft):
            raise BundleError(f"{model} does not become a bundle: {'; '.join(lacks)}")
        draft.replace(out)
    except OSError as error:
        raise BundleError(f"the bundle {out} cannot be written: {error.strerror}; choose another --out") from error
    finally:
        draft.unlink(missing_ok=True)


def _load(model: Path) -> Any:
    import onnx

    try:
        return onnx.load(str(model))
    except FileNotFoundError:
        raise BundleError(f"there is no file {model}: give the path of an ONNX file") from None
    except Exception as error:  # protobuf's errors have no public base
        raise BundleError(f"{model} is not an ONNX file") from error


def _input(loaded: Any, model: Path, names: OnnxNames) -> Any:
    stored = {initializer.name for initializer in loaded.graph.initializer}
    inputs = {one.name: one for one in loaded.graph.input if one.name not in stored}
    if names.image not in inputs:
        raise BundleError(f"{model} has no input '{names.image}'; it has {', '.join(inputs)}: say which with --input")
    return inputs[names.image]


def _fit_input(loaded: Any, model: Path, names: OnnxNames, metadata: BundleMetadata) -> None:
    """The graph begins with ``image`` of shape (1, 1, rows, columns)."""
    from onnx import TensorProto, helper

    given = _input(loaded, model, names)
    sides = [side.dim_value for side in given.type.tensor_type.shape.dim]
    channels = sides[1] if len(sides) == 4 else 0
    if channels not in (0, 1, 3):
        raise BundleError(
            f"{model}: the input '{names.image}' has {channels} channels, and a mammogram has 1 (or 3 alike)"
        )
    inside = "mammoscope_shown"
    _rename_uses(loaded.graph, names.image, inside)
    shown = helper.make_node("Concat", ["image"] * 3, [inside], axis=1) if channels == 3 else None
    loaded.graph.node.insert(0, shown or helper.make_node("Identity", ["image"], [inside]))
    size = metadata.input
    loaded.graph.input.remove(given)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, size.rows, size.columns])
    loaded.graph.input.insert(0, image)


def _fit_outputs(loaded: Any, model: Path, names: OnnxNames, metadata: BundleMetadata) -> None:
    """The graph ends with ``boxes``, ``scores`` and ``labels`` in the contract's shapes, and nothing else."""
    from onnx import TensorProto, helper, numpy_helper

    graph = loaded.graph
    there = {one.name for one in graph.output}
    for option, name in (("--boxes", names.boxes), ("--scores", names.scores), ("--labels", names.labels)):
        if name is not None and name not in there:
            raise BundleError(
                f"{model} has no output '{name}'; it has {', '.join(sorted(there))}: say which with {option}"
            )
    if names.labels is None and len(metadata.classes) > 1:
        raise BundleError(f"{model} gives no labels, which only a network of one class can do without")
    given = {"boxes": names.boxes, "scores": names.scores, "labels": names.labels}
    for old in filter(None, given.values()):
        _rename(graph, old, f"mammoscope_given_{old}")
    graph.initializer.extend(
        numpy_helper.from_array(np.array(shape, np.int64), f"mammoscope_shape_{len(shape)}")
        for shape in ((-1, 4), (-1,))
    )
    for new, rank in (("boxes", 2), ("scores", 1), ("labels", 1)):
        kind = TensorProto.INT64 if new == "labels" else TensorProto.FLOAT
        source = given[new]
        if source is None:  # as many zeros as there are scores
            graph.node.append(helper.make_node("Cast", ["scores"], ["mammoscope_whole"], to=TensorProto.INT64))
            graph.node.append(helper.make_node("Sub", ["mammoscope_whole", "mammoscope_whole"], [new]))
        else:
            flat = f"mammoscope_flat_{new}"
            graph.node.append(
                helper.make_node("Reshape", [f"mammoscope_given_{source}", f"mammoscope_shape_{rank}"], [flat])
            )
            graph.node.append(helper.make_node("Cast", [flat], [new], to=kind))
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]),
        ]
    )


def _rename_uses(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def _rename(graph: Any, old: str, new: str) -> None:
    """A value where it is made and where it is used."""
    _rename_uses(graph, old, new)
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == old:
                node.output[place] = new
