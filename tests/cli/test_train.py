"""`mammoscope train`, `export` and `detect` one after the other on twelve small pictures."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mammoscope.cli.train import train
from mammoscope.errors import MammoscopeError
from mammoscope.findings import Reading, ReadingStatus
from mammoscope.inference import Bundle

pytest.importorskip("torch")


def run_command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mammoscope", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **environment}
    )


def test_a_killed_run_goes_on_and_ends_with_its_figures(killed_run):
    assert 4 <= killed_run.iteration_when_killed < 24
    assert killed_run.second.returncode == 0, killed_run.second.stderr
    assert f"going on after iteration {killed_run.iteration_when_killed}" in killed_run.second.stderr
    assert "validation AP50" in killed_run.second.stderr
    metrics = json.loads((killed_run.folder / "validation" / "metrics.json").read_text())
    assert (metrics["n_images"], metrics["n_boxes"], metrics["split"]) == (4, 3, "val")
    assert "AP50" in (killed_run.folder / "validation" / "report.md").read_text()
    assert not list(killed_run.folder.rglob("*.part"))


def test_export_makes_a_bundle_that_detect_runs(command, killed_run, tiny_dataset: Path, tmp_path: Path):
    bundle = tmp_path / "models" / "tiny.onnx"
    done = command("export", killed_run.folder, "--out", bundle)

    assert done.returncode == 0, done.stderr
    assert "mammoscope-tiny" in done.stdout
    assert [path.name for path in bundle.parent.iterdir()] == ["tiny.onnx"]
    metadata = Bundle.open(bundle).metadata
    assert re.fullmatch(r"[0-9.]+[0-9a-z.]*\+[0-9a-f]{8}", metadata.version)  # Mammoscope's and the weights'
    assert (metadata.input.rows, metadata.input.columns) == (64, 64)
    (training_data,) = metadata.training_data
    assert (training_data.name, training_data.licence) == ("drawn by the tests", "CC0")
    assert (training_data.images, training_data.patients) == (8, 4)
    report = json.loads((killed_run.folder / "validation" / "metrics.json").read_text())
    assert metadata.operating_points[0].threshold == report["threshold"]
    assert metadata.figures[0].values["ap50"] == pytest.approx(report["ap50"], abs=1e-4)

    picture = tiny_dataset / "images" / "08.png"
    done = command("detect", picture, "--bundle", bundle, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((tmp_path / "out" / "readings.json").read_text())
    reading = Reading.from_json(entry)
    assert reading.status is not ReadingStatus.NOT_PROCESSED
    assert reading.algorithm.version == metadata.version


def test_mistakes_are_told_in_one_sentence(command, killed_run, tmp_path: Path):
    unknown = command("train", killed_run.recipe, "--set", "schedule.iteration=3")
    assert unknown.returncode == 2
    assert "schedule.iteration: a recipe has no such key" in unknown.stderr

    nothing = command("export", tmp_path, "--out", tmp_path / "x.onnx")
    assert nothing.returncode == 2
    assert "is not the folder of a run" in " ".join(nothing.stderr.split())
    assert "Traceback" not in unknown.stderr + nothing.stderr


def test_without_the_extra_the_commands_say_what_to_install(tmp_path: Path):
    hide = tmp_path / "sitecustomize.py"
    hide.write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name.split('.')[0] in {'torch', 'timm'} else find(name, *rest)\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    for arguments in (("train", "x.toml"), ("export", "run", "--out", "x.onnx")):
        done = run_command(*arguments, PYTHONPATH=path)
        assert done.returncode == 2
        sentence = " ".join(done.stderr.split())
        assert f"'mammoscope {arguments[0]}' needs torch, timm" in sentence
        assert "pip install '.[train]'" in sentence


def test_a_recipe_for_a_gpu_says_on_a_cpu_that_it_is_one_and_ctrl_c_is_130(tiny_recipe, tmp_path, monkeypatch, capsys):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys.modules[train.__module__], "_train_once", interrupted)
    with pytest.raises(typer.Exit) as ended:
        train(tiny_recipe(tmp_path / "run"), changes=["schedule.precision='bf16'"])
    told = capsys.readouterr().err
    assert "is for a GPU (precision bf16) and there is none: it trains on the CPU in fp32, many times slower" in told
    assert "the same command resumes from the last checkpoint" in told
    assert ended.value.exit_code == 130


@pytest.mark.parametrize("fold", ["zero", "0", "-1", "1.5"])
def test_a_fold_that_is_none_is_refused(fold: str, tiny_recipe, tmp_path: Path):
    recipe = tiny_recipe(tmp_path)
    with pytest.raises(MammoscopeError, match="--fold is a fold's number, counted from 1, or 'all'"):
        train(recipe, fold=fold)
