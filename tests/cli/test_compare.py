"""`mammoscope compare` on reports' folders of known models."""

import json

import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError
from mammoscope.evaluation import Case, ImageResult, cases_to_coco, evaluate, predictions_to_coco
from mammoscope.findings import Box, Finding

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
        ((one,), "at least two"),
        ((one, tmp_path), "not a report's folder"),
        ((one, one, "--format", "pdf"), "text, markdown, latex or html"),
    ):
        error = run(*arguments).exception
        assert isinstance(error, MammoscopeError)
        assert said in str(error)
