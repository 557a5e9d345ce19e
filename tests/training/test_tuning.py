"""The search over a recipe's numbers: it keeps to its budget, goes on after a kill, and looks at validation alone."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("optuna")

from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.training import Range, TrainingError, tune
from mammoscope.training.callbacks import Unwatched


def test_ranges_as_they_are_written():
    assert Range.parse("optimiser.learning_rate=1e-4:1e-2:log") == Range("optimiser.learning_rate", 1e-4, 1e-2, True)
    assert Range.parse("schedule.warmup=0:200") == Range("schedule.warmup", 0, 200)
    assert isinstance(Range.parse("schedule.warmup=0:200").high, int)
    assert Range.parse("detector.matching=iou,atss").choices == ("iou", "atss")
    for wrong in ("optimiser.learning_rate", "seed=1:2", "run.seed=3:2", "run.seed=0:9:log", "a.b=1:2:3", "a.b=x:y"):
        with pytest.raises(TrainingError, match="is not understood"):
            Range.parse(wrong)


@pytest.mark.slow
def test_a_search_keeps_to_validation_and_its_budget_and_goes_on(tiny_dataset, tiny_recipe, tmp_path: Path):
    # The test split's images cannot be read: whoever looks at them fails.
    data = Path(shutil.copytree(tiny_dataset, tmp_path / "data"))
    content = json.loads((data / "annotations.json").read_text())
    for image in content["images"][-2:]:
        image["split"] = "test"
        (data / "images" / image["file_name"]).write_bytes(b"unreadable")
    (data / "annotations.json").write_text(json.dumps(content))
    recipe = tiny_recipe(tmp_path / "run", data__dataset=str(data), schedule__iterations=8, run__validate_every=4)
    over = ["--over", "optimiser.learning_rate=1e-9:3e-3:log", "--over", "schedule.batch=2,4"]

    class Killed(Unwatched):
        def validated(self, iteration, figures):  # noqa: ARG002
            raise KeyboardInterrupt

    ranges = [Range.parse(text) for text in over[1::2]]
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, ranges, minutes=10, trials=3, watcher=lambda _: Killed())
    command = ["tune", str(recipe), *over, "--minutes", "10", "--trials", "3"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [trial["state"] for trial in told["trials"]] == ["failed", "finished", "finished"]
    assert told == json.loads((tmp_path / "run-tune/tune.json").read_text())
    best = max(told["trials"][1:], key=lambda trial: (trial["figure"], -trial["number"]))
    assert told["best"] == best
    assert (tmp_path / f"run-tune/trial-{best['number']}/checkpoint.pt").is_file()
    assert len(list((tmp_path / "run-tune").rglob("checkpoint.pt"))) == 1
    assert len(list((tmp_path / "run-tune").glob("trial-*/curves.jsonl"))) == 3
    assert told["trials"][1]["values"] != told["trials"][2]["values"]

    table = CliRunner().invoke(app, command)  # its trials are used up: told again, nothing trained
    assert f"\n{best['number'] + 1} " in table.stdout
    assert "--set optimiser.learning_rate=" in table.output
    with pytest.raises(TrainingError, match="a search over other ranges"):
        tune(recipe, ranges[:1], minutes=10, trials=3, watcher=lambda _: Unwatched())
    # A budget that is used up begins nothing.
    assert len(tune(recipe, ranges, minutes=1e-4, trials=9, watcher=lambda _: Unwatched()).trials) == 3


def test_a_range_that_no_recipe_allows_is_refused_before_a_minute_is_spent(tiny_recipe, tmp_path: Path):
    recipe = tiny_recipe(tmp_path / "run")
    for text, message in (
        ("optimiser.learning_rat=1e-4:1e-2", r"did you mean optimiser\.learning_rate"),
        ("detector.matching=iou,best", "detector.matching"),
    ):
        with pytest.raises(TrainingError, match=message):
            tune(recipe, [Range.parse(text)], minutes=1, trials=2, watcher=lambda _: Unwatched())
    assert not (tmp_path / "run-tune").exists()
