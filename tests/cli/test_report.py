"""`mammoscope report` on a small report's folder."""

import json

from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError
from mammoscope.evaluation import Case, ImageResult, cases_to_coco, evaluate, predictions_to_coco
from mammoscope.findings import Box, Finding


def run(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def page(folder):
    folder.mkdir(parents=True, exist_ok=True)
    box = Box(0, 0, 10, 10)
    case = Case(ImageResult(1, "p", (box,), (Finding(box, 0.9),)), "one.png", 20, 20, {}, ({"label": "Mass"},))
    metrics = evaluate([case.result], 0.5, "by hand", resamples=5, model="net").to_json()
    for name, content in (
        ("metrics", metrics),
        ("cases", cases_to_coco([case], {"Mass": 1})),
        ("predictions", predictions_to_coco([case], {"Mass": 1})),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_a_page_is_written(tmp_path):
    page(tmp_path)
    result = run(tmp_path, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "<h1>Evaluation of net</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    nowhere = run(tmp_path, "--out", tmp_path / "none" / "page.html").exception
    assert isinstance(nowhere, MammoscopeError)
    assert "cannot be written" in str(nowhere)


def test_a_runs_folder_is_its_validation_with_its_curves(tmp_path):
    page(tmp_path / "run" / "validation")
    (tmp_path / "run" / "recipe.json").write_text(json.dumps({"recipe": {"schedule": {"batch": 8}}}))
    (tmp_path / "run" / "curves.jsonl").write_text('{"iteration": 10, "loss": 1.5}\n{"iteration": 20, "loss": 1}\n')
    result = run(tmp_path / "run", "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "Training loss" in (tmp_path / "page.html").read_text(encoding="utf-8")
    error = run(tmp_path / "run" / "validation", "--run", tmp_path, "--out", tmp_path / "another.html").exception
    assert "is not the folder of a run" in str(error)


def test_a_folder_that_is_no_report_is_refused(tmp_path):
    error = run(tmp_path, "--out", tmp_path / "page.html").exception
    assert isinstance(error, MammoscopeError)
    assert not (tmp_path / "page.html").exists()
