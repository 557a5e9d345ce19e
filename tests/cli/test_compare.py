"""`mammoscope compare` on reports' folders of known models."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError
from mammoscope.evaluation import Case, ImageResult, cases_to_coco, evaluate, predictions_to_coco
from mammoscope.findings import Algorithm, Box, Finding
from mammoscope.imaging import Crop
from mammoscope.inference import BundleInput, BundleMetadata, OperatingPoint

A, NOWHERE = Box(0, 0, 10, 10), Box(100, 100, 110, 110)


def report(folder, hits, fingerprint="f", truth=A):
    found = [
        ImageResult(n, str(n), (truth,), (Finding(A if sign == "+" else NOWHERE, 0.9),)) for n, sign in enumerate(hits)
    ]
    cases = [Case(r, f"{r.image_id}.png", 200, 200, {}, ({"label": "Mass"},)) for r in found]
    metrics = evaluate(
        found, 0.5, "by hand", resamples=20, dataset="set", dataset_fingerprint=fingerprint, model=folder.name
    )
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(metrics.to_json()))
    (folder / "cases.json").write_text(json.dumps(cases_to_coco(cases, {"Mass": 1})))
    (folder / "predictions.json").write_text(json.dumps(predictions_to_coco(cases, {"Mass": 1})))
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_figures_and_differences(tmp_path):
    shown = run(report(tmp_path / "one", "++--"), report(tmp_path / "two", "++++"), report(tmp_path / "three", "+---"))
    assert shown.exit_code == 0, shown.output
    rows = [line.split()[:2] for line in shown.output.splitlines() if line.startswith(("one", "two", "three"))]
    assert rows == [["one", "0.500"], ["two", "1.000"], ["three", "0.250"], ["two", "+0.495"], ["three", "-0.248"]]


@pytest.mark.parametrize(
    ("form", "start"), [("markdown", "| two | 1.000"), ("latex", "two & 1.000"), ("html", "<tr><td>two</td><td>1.000")]
)
def test_formats(tmp_path, form, start):
    shown = run(report(tmp_path / "one", "++--"), report(tmp_path / "two", "++++"), "--format", form)
    assert shown.exit_code == 0
    assert any(line.startswith(start) for line in shown.output.splitlines())


@pytest.mark.parametrize(
    ("other", "said"),
    [({"fingerprint": "g"}, "another data set or split"), ({"truth": NOWHERE}, "other boxes as truth")],
)
def test_models_on_other_data_are_shown_without_a_difference(tmp_path, other, said):
    shown = run(report(tmp_path / "one", "++--"), report(tmp_path / "two", "++++", **other))
    assert shown.exit_code == 1
    assert said in shown.output
    assert "Minus" not in shown.output
    assert "two" in shown.stdout


def test_bad_use(tmp_path):
    one = report(tmp_path / "one", "++--")
    for arguments, said in (
        ((one, tmp_path), "not a report's folder"),
        ((one, tmp_path / "x.onnx", "--dataset", tmp_path), "not a report's folder"),
        ((one, one / "metrics.json"), "give --dataset"),
        ((one, one, "--format", "pdf"), "text, markdown, latex or html"),
    ):
        error = run(*arguments).exception
        assert isinstance(error, MammoscopeError)
        assert said in str(error)


def test_one_model_is_a_table_without_differences(tmp_path):
    shown = run(report(tmp_path / "one", "++--"))
    assert shown.exit_code == 0, shown.output
    assert "Minus" not in shown.output


def test_all_as_json(tmp_path):
    folders = [report(tmp_path / name, hits) for name, hits in (("a", "++--"), ("b", "+---"))]
    printed = json.loads(run(*folders, "--json", "--resamples", "99").stdout)
    assert [model["recall"] for model in printed["models"]] == [0.5, 0.25]
    assert printed["models"][0]["intervals"]["ap50"]
    ((_, found),) = printed["differences"].items()
    assert found["f1"]["value"] == pytest.approx(0.25 - 0.5)
    assert found["f1"]["interval"][0] <= found["f1"]["value"] <= found["f1"]["interval"][1]


def test_a_model_on_its_own_data_is_marked(tmp_path):
    folder = report(tmp_path / "a", "++--")
    metrics = json.loads((folder / "metrics.json").read_text())
    overlap = {
        "role": "trained on", "data": "films", "patients": 3, "of_patients": 4, "images": 3, "of_images": 4,
        "images_known": True,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics | {"overlaps": [overlap]}))
    shown = run(folder, report(tmp_path / "b", "+---")).stdout
    assert "(trained on: 3 of 4 patients)" in " ".join(shown.split())
    assert " * " in shown
    assert shown.count(" * ") - shown.count("marked * were") == 1


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "html"])
def test_the_papers_rows_are_marked_as_of_other_data(tmp_path, form):
    one = report(tmp_path / "one", "++--")
    shown = run(one, "--format", form).output
    rows = [line for line in shown.splitlines() if "Demirel" in line]
    assert len(rows) == 4
    assert all("(other data)" in row for row in rows)
    row = rows[0]
    assert row.index("0.735") < row.index("0.60") < row.index("0.66") < row.index("0.568")
    assert "for scale, not for comparison" in " ".join(shown.split())
    assert "Demirel" not in run(one, "--format", form, "--no-paper").output


def test_a_run_stands_with_its_validation(tmp_path):
    (tmp_path / "run").mkdir()
    report(tmp_path / "run" / "validation", "++--")
    shown = run(tmp_path / "run")
    assert shown.exit_code == 0, shown.output
    assert "validation" in shown.output


def test_bundles_are_evaluated_on_the_data_set(tiny_dataset, monkeypatch):
    monkeypatch.setattr("mammoscope.inference.Detector", BrightSpot)
    folder = tiny_dataset.parent
    (folder / "a.onnx").write_text("")
    (folder / "b.onnx").write_text("")
    shown = run(folder / "a.onnx", folder / "b.onnx", "--dataset", tiny_dataset, "--split", "val", "--resamples", 9)
    assert shown.exit_code == 0, shown.output
    rows = [line.split()[:3] for line in shown.output.splitlines() if line.startswith("spot")]
    # three of the four images of val hold the mass that b finds; a finds none
    assert rows[:2] == [["spot", "(a.onnx)", "0.000"], ["spot", "(b.onnx)", "0.750"]]
    assert rows[2][:2] == ["spot", "(b.onnx)"]
    assert "split val: 4 images of 2 patients with 3 boxes" in shown.output


class BrightSpot:
    """Finds the true box of `tiny_dataset` by its bright spot, or, as bundle a, the corner."""

    algorithm = Algorithm("spot", "1")
    threshold, threshold_rule = 0.5, "by hand"

    def __init__(self, bundle=None, *, threads=None):  # noqa: ARG002
        self._finds = bundle.name == "b.onnx"
        self.bundle = SimpleNamespace(
            path=bundle,
            metadata=BundleMetadata(
                name="spot", version="1", input=BundleInput(rows=64, columns=32, crop=Crop.BREAST), classes=("Mass",),
                operating_points=(OperatingPoint(name="default", threshold=0.5, rule="by hand", chosen_on="nothing"),),
                training_data=(), made_with="a pencil",
            )
        )  # fmt: skip

    def candidates(self, mammogram):
        box = Box(0, 0, 5, 5)
        if self._finds:
            smooth = cv2.GaussianBlur(mammogram.pixels.astype(np.float32), (0, 0), 5)
            y, x = np.unravel_index(smooth.argmax(), smooth.shape)
            box = Box(x - 12.0, y - 12.0, x + 12.0, y + 12.0)
        return (Finding(box, 0.9),)
