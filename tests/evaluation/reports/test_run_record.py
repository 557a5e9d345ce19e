import json

import pytest

from mammoscope.evaluation import EvaluationError, RunRecord, read_run, recipe_lines
from mammoscope.evaluation.reports.charts import SIDE, training_charts

RECIPE = {
    "name": "small",
    "data": {"dataset": "/home/someone/data", "source": "films"},
    "detector": {"weights": "/home/someone/r50.pth", "classes": ["Mass", "Cyst"], "cached": True},
    "run": {"folder": "/home/someone/runs", "seed": 3},
    "schedule": {"minutes": None},
}


def run_folder(folder, lines):
    (folder / "recipe.json").write_text(json.dumps({"recipe": RECIPE, "mammoscope": "1", "torch": "2.11", "x": 0}))
    (folder / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_of_an_iteration_done_twice_the_later_line_counts(tmp_path):
    run = read_run(
        run_folder(
            tmp_path,
            [
                {"iteration": 20, "loss": 5.0}, {"iteration": 10, "loss": 2.0}, {"iteration": 20, "loss": 1.0},
                {"iteration": 20, "validation": {"ap50": 0.5}},
            ],
        )
    )  # fmt: skip
    assert [(n, step["loss"]) for n, step in run.steps.items()] == [(10, 2.0), (20, 1.0)]
    assert run.validations == {20: {"ap50": 0.5}}
    assert run.made_with == {"mammoscope": "1", "torch": "2.11"}


def test_a_recipe_without_places_on_a_machine():
    assert recipe_lines(RECIPE) == [
        ("name", "small"),
        ("data.source", "films"),
        ("detector.weights", "r50.pth"),
        ("detector.classes", "Mass, Cyst"),
        ("detector.cached", "true"),
        ("run.seed", "3"),
    ]


def test_of_several_networks_what_they_share_is_given_once():
    other = {**RECIPE, "name": "large", "start": "/home/someone/runs/small"}
    lines = recipe_lines({"mirrored": True, "fused": {"1": RECIPE, "2": other}})
    assert lines[0] == (
        "networks",
        "2; the detections of all are fused, on the mammogram and on its mirror image",
    )
    assert ("name", "network 1: small; network 2: large") in lines
    assert ("start", "network 1: none; network 2: small") in lines
    assert lines.count(("run.seed", "3")) == 1
    assert recipe_lines({"mirrored": False, "averaged": {"1": RECIPE, "2": other}})[0] == (
        "networks",
        "2; the mean of their weights",
    )


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(EvaluationError, match="is not the folder of a run"):
        read_run(tmp_path)
    run_folder(tmp_path, [])
    assert read_run(tmp_path).steps == {}
    (tmp_path / "curves.jsonl").write_text('{"iteration": 1, "loss": 2}\n{"iter')
    with pytest.raises(EvaluationError, match=r"curves\.jsonl cannot be read"):
        read_run(tmp_path)
    (tmp_path / "recipe.json").write_text("[]")
    with pytest.raises(EvaluationError, match="is not the folder of a run"):
        read_run(tmp_path)


def test_the_curves_of_a_run():
    run = RunRecord(
        RECIPE,
        steps={100: {"loss": 2.0, "learning_rate": 0.01}, 400: {"loss": 1.0, "learning_rate": 0.005}},
        validations={200: {"ap50": 0.25, "f1": None}, 400: {"ap50": 0.5}},
    )
    loss, rate, figures = training_charts(run)
    assert (loss.x_max, loss.y_max, loss.lines[0].points) == (400, 2, f"90,0 360,{SIDE / 2:g}")
    assert rate.title == "Learning rate, highest 0.01"
    assert rate.lines[0].points == "90,0 360,180"
    assert [(line.name, line.points) for line in figures.lines] == [("AP50", "180,270 360,180")]


def test_long_curves_are_thinned_and_empty_ones_left_out():
    [loss] = training_charts(RunRecord({}, steps={n: {"loss": n % 2} for n in range(1, 2001)}))
    assert len(loss.lines[0].points.split()) <= 300
    assert training_charts(RunRecord({})) == []
