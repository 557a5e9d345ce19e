"""`mammoscope import-onnx` and `bundle check` with small networks of other programs' habits."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from mammoscope.inference import Detector, rewrite_metadata, shipped_bundle  # noqa: E402


def network(file, *, channels=1, batch=False, labels=True, size=(64, 32), names=("images", "dets", "conf", "cls")):
    """A network that proposes two fixed boxes; the first's score is the mean of its input."""
    image, boxes, scores, classes = names
    lead = (1,) if batch else ()
    constants = {
        "fixed": np.array([[4, 8, 20, 24], [8, 30, 30, 50]], np.float32).reshape(*lead, 2, 4),
        "half": np.full((*lead, 1), 0.5, np.float32),
        "kinds": np.zeros((*lead, 2), np.int32),
        "shape": np.array((*lead, 1), np.int64),
    }
    nodes = [
        helper.make_node("Identity", ["fixed"], [boxes]),
        helper.make_node("ReduceMean", [image], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["one"]),
        helper.make_node("Concat", ["one", "half"], [scores], axis=len(lead)),
    ]
    outputs = [
        helper.make_tensor_value_info(boxes, TensorProto.FLOAT, [*lead, 2, 4]),
        helper.make_tensor_value_info(scores, TensorProto.FLOAT, [*lead, 2]),
    ]
    if labels:
        nodes.append(helper.make_node("Identity", ["kinds"], [classes]))
        outputs.append(helper.make_tensor_value_info(classes, TensorProto.INT32, [*lead, 2]))
    shape = [1, channels, *(size or ("rows", "columns"))]
    graph = helper.make_graph(
        nodes,
        "habit",
        [helper.make_tensor_value_info(image, TensorProto.FLOAT, shape)],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(file))
    return file


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def imported(tmp_path, model, *options):
    names = ("--input", "images", "--boxes", "dets", "--scores", "conf")
    out = tmp_path / "mine.onnx"
    return out, run("import-onnx", model, "--out", out, "--name", "mine", "--threshold", 0.4, *names, *options)


@pytest.mark.parametrize(
    ("habits", "options"),
    [
        ({}, ("--labels", "cls")),
        ({"channels": 3, "batch": True}, ("--labels", "cls")),
        ({"labels": False, "batch": True}, ("--labels", "-")),
        ({"size": None}, ("--labels", "cls", "--rows", 64, "--columns", 32)),
    ],
)
def test_networks_of_other_habits_become_bundles(tmp_path, habits, options, tiny_dataset):
    from mammoscope.imaging import read_mammogram

    out, done = imported(tmp_path, network(tmp_path / "net.onnx", **habits), *options)
    assert done.exit_code == 0, done.exception
    assert run("bundle", "check", out).output.strip() == f"{out} is a bundle."
    detector = Detector(out, threads=1)
    mammogram = read_mammogram(tiny_dataset / "images/00.png")
    found = detector.candidates(mammogram)
    assert {round(finding.score, 3) for finding in found} >= {0.5}
    assert [finding.label for finding in found] == ["Mass", "Mass"]
    assert json.loads(run("bundle", "show", out).stdout)["operating_points"][0]["threshold"] == 0.4


def test_what_a_foreign_file_lacks_is_listed(tmp_path):
    done = run("bundle", "check", network(tmp_path / "net.onnx", channels=3))
    assert done.exit_code == 1
    for said in ("input is called 'image', not 'images'", "no output 'boxes' of shape (n, 4)", "no metadata"):
        assert said in done.output
    good = network(tmp_path / "named.onnx", names=("image", "boxes", "scores", "labels"))
    assert run("bundle", "check", good).output.count("\n") == 1  # the metadata alone
    (tmp_path / "text.onnx").write_text("no model")
    assert isinstance(run("bundle", "check", tmp_path / "text.onnx").exception, MammoscopeError)


def test_the_shipped_bundle_keeps_the_contract_and_says_whom_it_knows():
    assert run("bundle", "check", shipped_bundle()).exit_code == 0
    known = json.loads(run("bundle", "show").stdout)["known_data"]
    assert [(one["role"], one["patients"], one["images"]) for one in known] == [
        ("trained on", 588, 1049), ("chosen on", 103, 182), ("calibrated on", 103, 182), ("calibrated on", 103, 182),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--labels", "kinds"), "no output 'kinds'; it has cls, conf, dets: say which with --labels"),
        (("--labels", "cls", "--rows", "32"), "takes 64 rows and 32 columns and no others"),
        (("--labels", "-", "--classes", "Mass,Calcification"), "gives no labels"),
        (("--labels", "cls", "--size", "60"), "multiples of 32, not 60 x 32"),
        (("--labels", "cls", "--crop", "all"), "--crop is one of"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, options, said):
    sides = (60, 32) if "--size" in options else (64, 32)
    options = () if "--size" in options else options
    out, done = imported(tmp_path, network(tmp_path / "net.onnx", size=sides), *options)
    assert isinstance(done.exception, MammoscopeError)
    assert said in str(done.exception)
    assert not out.exists()


def test_a_network_that_gives_something_else_is_not_kept(tmp_path):
    file = network(tmp_path / "net.onnx")
    model = onnx.load(str(file))
    kinds = next(one for one in model.graph.initializer if one.name == "kinds")
    kinds.CopyFrom(numpy_helper.from_array(np.array([0, 7], np.int32), "kinds"))
    onnx.save(model, str(file))
    out, done = imported(tmp_path, file, "--labels", "cls")
    assert "its labels are indices of 1 classes, from 0, and go to 7" in str(done.exception)
    assert not out.exists()


def test_metadata_can_be_rewritten(tmp_path):
    out, _ = imported(tmp_path, network(tmp_path / "net.onnx"), "--labels", "cls")
    metadata = Detector(out, threads=1).bundle.metadata.model_copy(update={"version": "2"})
    rewrite_metadata(out, metadata, tmp_path / "two.onnx")
    assert Detector(tmp_path / "two.onnx", threads=1).algorithm.version == "2"
