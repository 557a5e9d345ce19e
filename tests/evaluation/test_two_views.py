"""Weights for two views: fitted, judged on patients that they were not fitted on, kept in report and bundle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.evaluation import Case, ImageResult, cases_to_coco, evaluate, predictions_to_coco, read_report
from mammoscope.evaluation.matching import EvaluationError
from mammoscope.evaluation.predictions import Report
from mammoscope.evaluation.two_views import (
    cross_validated,
    fit_two_views,
    gains,
    metadata_with_two_views,
    pairs_of_cases,
    read_together,
)
from mammoscope.findings import Box, Finding
from mammoscope.imaging import BreastExtent
from mammoscope.inference import Bundle

WALL_LEFT = BreastExtent(nipple=400, chest_wall=0)


def breasts(n: int, *, seed: int = 0, alike: bool = True) -> list[Case]:
    """Each breast with a mass on both views, at one depth and size if ``alike``, and three false candidates."""
    draw = np.random.default_rng(seed)
    cases = []
    for number in range(n):
        depth, size = draw.uniform(60, 340), draw.uniform(20, 80)
        for view in ("CC", "MLO"):
            offset = 30 if view == "CC" and alike else 0
            if not alike:
                depth, size = draw.uniform(60, 340), draw.uniform(20, 80)
            here = depth + offset
            truth = Box.from_xywh(400 - here - size / 2, 100, size, size)
            found = [Finding(truth, float(draw.beta(3, 3)))]
            for _ in range(3):
                side = draw.uniform(20, 80)
                box = Box.from_xywh(400 - draw.uniform(60, 340) - side / 2, 500, side, side)
                found.append(Finding(box, float(draw.beta(2, 4))))
            found.sort(key=lambda finding: -finding.score)
            result = ImageResult(len(cases), str(number), (truth,), tuple(found), laterality="L")
            name, facts = f"{number}_{view}.png", {"view": view, "laterality": "L"}
            cases.append(Case(result, name, 600, 400, facts, ({"label": "Mass"},), extent=WALL_LEFT))
    return cases


def test_pairs_are_of_one_patient_one_side_and_one_examination():
    cases = breasts(2)
    assert pairs_of_cases(cases) == [(0, 1), (2, 3)]
    assert pairs_of_cases([replace(cases[0], study="1"), replace(cases[1], study="2")]) == []
    assert pairs_of_cases([cases[0], replace(cases[1], extent=None)]) == []
    assert pairs_of_cases([*cases[:2], replace(cases[1], result=replace(cases[1].result, image_id=9))]) == []


def test_the_other_view_helps_patients_that_the_weights_were_not_fitted_on():
    cases = breasts(80)
    weights = fit_two_views(cases, fitted_on="made up")
    assert weights is not None
    assert weights.own > 0
    assert weights.other > 0.2
    honest = cross_validated(cases)
    assert honest is not None
    found = gains(honest, 0.4, resamples=300)
    assert found["ap50"].difference > 0.05
    assert found["ap50"].interval[0] > 0
    assert found["log_loss"].interval[1] < 0
    flattered = gains(read_together(cases, weights), 0.4, resamples=0)
    assert flattered["log_loss"].together <= found["log_loss"].together
    assert flattered["ap50"].interval is None


def test_views_that_have_nothing_to_do_with_each_other_teach_nothing():
    cases = breasts(80, alike=False)
    assert cross_validated(cases) is None
    assert fit_two_views(breasts(5)) is None
    assert fit_two_views([]) is None


def test_what_was_read_alone_comes_back(tmp_path: Path):
    cases = breasts(40)
    weights = fit_two_views(cases)
    assert weights is not None
    together = read_together(cases, weights)
    assert [case.alone for case in together] == cases
    assert read_together(together, weights) == together
    write_report(tmp_path, together)
    again = read_report(tmp_path)
    assert [case.extent for case in again.cases] == [WALL_LEFT] * 80
    for stored, before in zip(again.results_alone, cases, strict=True):
        assert [f.score for f in stored.candidates] == [f.score for f in before.result.candidates]
    with pytest.raises(ValueError, match="scores as candidates"):
        replace(cases[0], scores_alone=(0.1,))


def test_a_bundle_gets_the_weights_and_a_version_of_its_own(tmp_path: Path):
    bundle = Bundle.open()
    write_report(tmp_path / "report", breasts(80))
    done = CliRunner().invoke(
        app, ["fit-views", str(tmp_path / "report"), "--out", str(tmp_path / "b.onnx"), "--resamples", "50"]
    )
    assert done.exit_code == 0, done.output
    assert "AP at IoU 0.5" in done.output
    metadata = Bundle.open(tmp_path / "b.onnx").metadata
    assert metadata.two_views.fitted_on == "ours, 80 breasts of 80 patients seen on both views"
    assert metadata.version != bundle.metadata.version
    assert metadata.version.startswith("0.1.0+701a4472.views-")

    write_report(tmp_path / "none", breasts(80, alike=False))
    done = CliRunner().invoke(
        app, ["fit-views", str(tmp_path / "none"), "--out", str(tmp_path / "c.onnx"), "--resamples", "5"]
    )
    assert "teaches nothing about two views" in str(done.exception)
    assert not (tmp_path / "c.onnx").exists()
    other = Report(tmp_path, {"model": "other", "model_version": "1"}, ())
    with pytest.raises(EvaluationError, match="evaluate this bundle first"):
        metadata_with_two_views(other, bundle.metadata)


def write_report(folder: Path, cases: list[Case]) -> None:
    metadata = Bundle.open().metadata
    metrics = evaluate([case.result for case in cases], 0.4, "", resamples=0, dataset="ours", model=metadata.name,
                       model_version=metadata.version)  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name, content in (
        ("metrics", metrics.to_json()),
        ("cases", cases_to_coco(cases, {"Mass": 1})),
        ("predictions", predictions_to_coco(cases, {"Mass": 1})),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
