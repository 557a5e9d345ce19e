import json
import subprocess
import sys
from pathlib import Path

import pytest

from mammoscope.datasets import divide_into_folds
from mammoscope.evaluation import ImageResult, evaluate
from mammoscope.findings import Box, Finding
from mammoscope.training import CrossValidation, load_recipe

HIT, MISS = Box(10, 10, 20, 20), Box(60, 60, 70, 70)


def image(number: int, *scores: float, found: bool = True) -> ImageResult:
    """One mass; candidates with these scores, the first on it if ``found``."""
    boxes = [
        HIT if found and not place else Box(60, 60 + 20 * place, 70, 70 + 20 * place) for place in range(len(scores))
    ]
    candidates = tuple(Finding(box, score, "Mass") for box, score in zip(boxes, scores, strict=True))
    return ImageResult(number, f"p{number}", (HIT,), candidates)


@pytest.fixture
def summary() -> CrossValidation:
    # Fold 1 finds both masses, fold 2 one of two.
    first, second = [image(1, 0.9), image(2, 0.8)], [image(3, 0.7), image(4, 0.9, found=False)]
    folds = {1: evaluate(first, 0.5, "by hand"), 2: evaluate(second, 0.5, "by hand")}
    return CrossValidation(folds, evaluate(first + second, 0.5, "by hand", dataset="drawn"))


def test_mean_and_standard_deviation_by_hand(summary: CrossValidation):
    assert summary.spread("recall") == (pytest.approx(0.75), pytest.approx(0.5 / 2**0.5))
    assert summary.spread("precision") == (pytest.approx(0.75), pytest.approx(0.5 / 2**0.5))
    assert summary.to_json()["mean"]["recall"] == pytest.approx(0.75)
    assert summary.to_json()["pooled"]["n_images"] == 4


def test_the_table_has_a_row_a_fold_the_spread_and_the_pooled_figures(summary: CrossValidation):
    table = summary.table()
    rows = {name: dict(zip(table.header[1:], cells, strict=True)) for name, *cells in table.rows}

    assert list(rows) == ["fold 1", "fold 2", "mean (SD)", "out of fold"]
    assert (rows["fold 1"]["Recall"], rows["fold 2"]["Recall"]) == ("1.000", "0.500")
    assert rows["mean (SD)"]["Recall"] == "0.750 (0.354)"
    assert rows["out of fold"]["Recall"].startswith("0.750 (")  # three of four, with its interval
    assert "4 images of 4 patients with 4 boxes, 2 folds by patient" in table.caption


def test_one_fold_has_no_spread(summary: CrossValidation):
    single = CrossValidation({1: summary.folds[1]}, summary.pooled)
    assert single.spread("recall") == (1, None)


def test_every_fold_is_trained_and_all_are_summed_up(tiny_dataset: Path, tiny_recipe, tmp_path: Path):
    import shutil

    folder = tmp_path / "set"
    shutil.copytree(tiny_dataset, folder, ignore=shutil.ignore_patterns(".prepared"))
    divide_into_folds(folder, 2)
    recipe = tiny_recipe(tmp_path / "run", data__dataset=str(folder))
    command = [sys.executable, "-m", "mammoscope", "train", str(recipe)]
    done = subprocess.run([*command, "--fold", "all"], capture_output=True, text=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr

    summed = json.loads((tmp_path / "run" / "folds.json").read_text())
    assert list(summed["folds"]) == ["1", "2"]
    assert summed["pooled"]["n_images"] == sum(fold["n_images"] for fold in summed["folds"].values()) == 12
    assert "out of fold" in done.stdout
    assert "out of fold" in (tmp_path / "run" / "folds.md").read_text()
    for fold in (1, 2):
        run = tmp_path / "run" / f"fold-{fold}"
        assert json.loads((run / "recipe.json").read_text())["recipe"]["data"]["fold"] == fold
        assert (run / "checkpoint.pt").is_file()
        figures = json.loads((run / "validation" / "metrics.json").read_text())
        assert figures["ap50"] == pytest.approx(summed["folds"][str(fold)]["ap50"])
    assert len(list((folder / ".prepared").glob("*.npy"))) == 1  # shared by the folds

    single = subprocess.run([*command, "--fold", "2"], capture_output=True, text=True, check=False, timeout=550)
    assert single.returncode == 0, single.stderr
    assert "going on after iteration 24" in single.stderr


def test_a_folds_run_lies_within_the_whole(tiny_recipe, tmp_path: Path):
    from mammoscope.training import in_fold

    recipe = load_recipe(tiny_recipe(tmp_path / "run"))
    assert recipe.run_folder == tmp_path / "run"
    assert in_fold(recipe, 3).run_folder == tmp_path / "run" / "fold-3"
