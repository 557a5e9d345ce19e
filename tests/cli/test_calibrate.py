"""`mammoscope calibrate` on the shipped bundle's file and a report of known candidates."""

import json

import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError
from mammoscope.evaluation import Case, ImageResult, cases_to_coco, evaluate, predictions_to_coco
from mammoscope.findings import Box, Finding
from mammoscope.inference import Bundle, Detector

A, NOWHERE = Box(0, 0, 10, 10), Box(50, 50, 60, 60)


@pytest.fixture
def report(tmp_path):
    """Of the shipped bundle: of ten candidates at 0.6 nine hit, of ten at 0.2 one."""
    metadata = Bundle.open().metadata
    found = [
        ImageResult(n, str(n), (A,), (Finding(A if n < 9 or n == 10 else NOWHERE, 0.6 if n < 10 else 0.2),))
        for n in range(20)
    ]
    metrics = evaluate(found, 0.3, "", resamples=5, dataset="ours", model=metadata.name, model_version=metadata.version)
    cases = [Case(result, f"{result.image_id}.png", 99, 99, {}, ({"label": "Mass"},)) for result in found]
    folder = tmp_path / "report"
    folder.mkdir()
    for name, content in (
        ("metrics", metrics.to_json()),
        ("cases", cases_to_coco(cases, {"Mass": 1})),
        ("predictions", predictions_to_coco(cases, {"Mass": 1})),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def test_a_bundle_that_runs_and_says_how_it_was_calibrated(report, tmp_path):
    result = run(report, "--out", tmp_path / "b.onnx")
    assert result.exit_code == 0, result.output
    assert "thresholds: default" in result.output
    before, after = Bundle.open().metadata, Detector(tmp_path / "b.onnx", threads=1).bundle.metadata
    assert after.calibration.fitted_on == "ours, 20 images of 20 patients"
    assert after.version.startswith(f"{before.version}.calibrated-")
    assert after.operating_points[0].threshold != before.operating_points[0].threshold


def test_a_report_of_another_bundle_is_refused(report, tmp_path):
    metrics = json.loads((report / "metrics.json").read_text())
    (report / "metrics.json").write_text(json.dumps(metrics | {"model_version": "another"}))
    error = run(report, "--out", tmp_path / "b.onnx").exception
    assert isinstance(error, MammoscopeError)
    assert "evaluate this bundle first" in str(error)
    assert not (tmp_path / "b.onnx").exists()


def test_without_onnx_it_says_what_to_install(report, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    error = run(report, "--out", tmp_path / "b.onnx").exception
    assert isinstance(error, MammoscopeError)
    assert "pip install '.[train]'" in str(error)
