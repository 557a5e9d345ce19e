import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from mammoscope.findings import Algorithm
from mammoscope.imaging import Crop, Mammogram, Preprocessing
from mammoscope.inference import (
    METADATA_KEY,
    Bundle,
    BundleError,
    BundleMetadata,
    Calibration,
    Detector,
    rewrite_metadata,
)

METADATA = {
    "name": "small",
    "version": "1.2",
    "input": {"rows": 64, "columns": 32, "crop": "breast"},
    "classes": ["Mass"],
    "operating_points": [
        {"name": "default", "threshold": 0.4, "rule": "highest F1", "chosen_on": "val"},
        {"name": "sensitive", "threshold": 0.1, "rule": "2 FPPI", "chosen_on": "val"},
    ],
    "training_data": [{"name": "CBIS-DDSM", "licence": "CC BY 3.0", "images": 5, "patients": 2, "fingerprint": "ab"}],
    "figures": [
        {
            "dataset": "cbis",
            "split": "val",
            "iou": 0.5,
            "threshold_rule": "highest F1",
            "values": {"ap50": 0.6},
            "intervals": {"ap50": [0.5, 0.7]},
        }
    ],
    "made_with": "the tests",
}


def write_model(path: Path, metadata: str | None, rows: int = 64) -> Path:
    """A network that proposes one box: ONNX with the bundle's inputs and outputs, or a plain one."""
    helper, tensor = onnx.helper, onnx.TensorProto
    constants = {
        "boxes": helper.make_tensor("b", tensor.FLOAT, (1, 4), [4, 8, 12, 24]),
        "scores": helper.make_tensor("s", tensor.FLOAT, (1,), [0.3]),
        "labels": helper.make_tensor("l", tensor.INT64, (1,), [0]),
    }
    graph = helper.make_graph(
        [helper.make_node("Constant", [], [name], value=value) for name, value in constants.items()],
        "one box",
        [helper.make_tensor_value_info("image", tensor.FLOAT, (1, 1, rows, 32))],
        [helper.make_tensor_value_info(n, v.data_type, list(v.dims)) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata})
    path.write_bytes(model.SerializeToString())
    return path


def changed(**changes: object) -> str:
    return json.dumps(METADATA | changes)


def test_metadata_comes_back_as_it_was_written(tmp_path: Path):
    metadata = BundleMetadata.model_validate(METADATA)
    bundle = Bundle.open(write_model(tmp_path / "a.onnx", metadata.model_dump_json()))

    assert bundle.metadata == metadata
    assert bundle.metadata.notice == "Research use only; not a medical device."
    assert bundle.metadata.figures[0].intervals == {"ap50": (0.5, 0.7)}
    assert bundle.metadata.input.preprocessing == Preprocessing(64, 32, Crop.BREAST)
    assert bundle.algorithm == Algorithm("small", "1.2")


def test_operating_points_by_name_the_first_by_default(tmp_path: Path):
    bundle = Bundle.open(write_model(tmp_path / "a.onnx", changed()))

    assert bundle.operating_point().threshold == 0.4
    assert bundle.operating_point("sensitive").threshold == 0.1
    with pytest.raises(BundleError, match="no operating point 'bold': it has default, sensitive"):
        bundle.operating_point("bold")


def test_a_file_that_is_not_there_or_no_model_is_told(tmp_path: Path):
    with pytest.raises(BundleError, match=r"there is no model bundle .*gone\.onnx: give the path"):
        Bundle.open(tmp_path / "gone.onnx")
    with pytest.raises(BundleError, match="there is no model bundle"):
        Bundle.open(tmp_path)
    for content in (b"", b"no model at all", write_model(tmp_path / "a.onnx", changed()).read_bytes()[:100]):
        (tmp_path / "b.onnx").write_bytes(content)
        with pytest.raises(BundleError, match=r"b\.onnx is not a model that can be run"):
            Bundle.open(tmp_path / "b.onnx")


def test_a_plain_onnx_model_is_no_bundle(tmp_path: Path):
    with pytest.raises(BundleError, match=r"is an ONNX model but no Mammoscope bundle: make one with"):
        Bundle.open(write_model(tmp_path / "a.onnx", None))


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ("not JSON", "as a whole"),
        ("{}", "name"),
        (changed(surprise=1), "surprise"),
        (changed(operating_points=[]), "operating_points"),
        (changed(format=0), "format"),
        (changed(input={"rows": 64, "columns": 32, "crop": "breast", "pixels": "as they come"}), "input.pixels"),
        (changed(input={"rows": 64, "columns": 32, "crop": "breast", "percentiles": [99, 1]}), "input"),
        (
            changed(format=1, input={"rows": 64, "columns": 32, "crop": "breast", "pixels": "as they come"}),
            "as a whole",
        ),
    ],
)
def test_metadata_of_another_version_names_the_field(tmp_path: Path, metadata: str, field: str):
    with pytest.raises(BundleError, match=r"not one this version understands") as caught:
        Bundle.open(write_model(tmp_path / "a.onnx", metadata))
    assert f"({field}: " in str(caught.value)


@pytest.mark.parametrize("number", [4, 40])
def test_a_bundle_of_a_later_version_is_refused_and_named(tmp_path: Path, number: int):
    metadata = changed(format=number, input={"something": "that nobody here knows"})
    with pytest.raises(BundleError, match=rf"made by a later version of Mammoscope \(bundle format {number}; .* 3\)"):
        Bundle.open(write_model(tmp_path / "a.onnx", metadata))


def test_a_bundle_of_format_1_has_the_preprocessing_that_its_sentence_meant(tmp_path: Path):
    pixels = "breast percentiles 1 to 99.8 as 0 to 1, region fills the input"
    old = changed(format=1, input={"rows": 64, "columns": 32, "crop": "breast", "pixels": pixels})
    metadata = Bundle.open(write_model(tmp_path / "a.onnx", old)).metadata
    assert metadata.format == 3
    assert metadata.input.preprocessing == Preprocessing(64, 32, Crop.BREAST, (1.0, 99.8), (0.5, 1.25))
    assert metadata.input.pixels == pixels


def test_the_preprocessing_of_a_bundle_is_what_its_network_sees(tmp_path: Path):
    odd = {"rows": 64, "columns": 32, "crop": "none", "percentiles": [10.0, 90.0], "aspect": [0.1, 3.0]}
    metadata = Bundle.open(write_model(tmp_path / "a.onnx", changed(input=odd))).metadata
    assert metadata.input.preprocessing == Preprocessing(64, 32, Crop.NONE, (10.0, 90.0), (0.1, 3.0))


def test_a_network_of_another_size_than_its_metadata_is_refused(tmp_path: Path):
    with pytest.raises(BundleError, match=r"does not take the 64 x 32 pixels that its metadata states"):
        Bundle.open(write_model(tmp_path / "a.onnx", changed(), rows=96))


def test_two_operating_points_of_one_name_are_refused():
    twice = {**METADATA, "operating_points": METADATA["operating_points"][:1] * 2}
    with pytest.raises(ValidationError, match="two operating points have the same name"):
        BundleMetadata.model_validate(twice)


CURVE = {"slope": 2.0, "intercept": 0.0, "rule": "a mark hits", "fitted_on": "val"}


def test_a_calibrated_bundle_gives_probabilities(tmp_path: Path):
    image = Mammogram(np.full((64, 32), 40000, np.uint16), "m")
    plain = Detector(write_model(tmp_path / "plain.onnx", changed()), threads=1)
    calibrated = Detector(write_model(tmp_path / "calibrated.onnx", changed(calibration=CURVE)), threads=1)

    [before], [after] = plain.candidates(image), calibrated.candidates(image)
    assert before.score == pytest.approx(0.3)
    assert after.score == pytest.approx(9 / 58)  # odds 3/7, squared: 9/49
    assert (after.box, after.label) == (before.box, before.label)
    assert calibrated.read(image, 9 / 58 - 1e-6).findings == (after,)
    assert calibrated.read(image, 9 / 58 + 1e-6).findings == ()


def test_other_metadata_on_the_same_network(tmp_path: Path):
    file = write_model(tmp_path / "a.onnx", changed())
    metadata = Bundle.open(file).metadata
    other = metadata.model_copy(update={"version": "2", "calibration": Calibration(**CURVE)})

    rewrite_metadata(file, other, tmp_path / "new" / "b.onnx")
    assert Bundle.open(tmp_path / "new" / "b.onnx").metadata == other
    assert onnx.load(str(tmp_path / "new" / "b.onnx")).graph == onnx.load(str(file)).graph
    rewrite_metadata(file, other, file)  # in place
    assert Bundle.open(file).metadata == other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "new"]


def test_metadata_that_cannot_be_written_is_told(tmp_path: Path):
    file = write_model(tmp_path / "a.onnx", changed())
    metadata = Bundle.open(file).metadata
    with pytest.raises(BundleError, match=r"the bundle .* cannot be written: .*; choose another --out"):
        rewrite_metadata(file, metadata, file / "b.onnx")
