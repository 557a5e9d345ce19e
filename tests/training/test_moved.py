"""What a run's folder keeps true: sides of breasts, a moved data set, keys that were misspelt."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from mammoscope.datasets import load_dataset
from mammoscope.evaluation import case_of
from mammoscope.findings import Box, Finding
from mammoscope.imaging import Laterality
from mammoscope.training import RunFolder, TrainingError, load_recipe
from mammoscope.training.checkpoint import Checkpoint, _Stream
from mammoscope.training.optim import MixedPrecision, precision_on
from mammoscope.training.recipe import recipe_file, shipped_recipes
from mammoscope.training.run_report import data_of
from mammoscope.training.validation import results_on


@pytest.fixture
def moved_set(tiny_dataset, tmp_path):
    return Path(shutil.copytree(tiny_dataset, tmp_path / "here"))


def checkpoint():
    return Checkpoint(1, 0.1, {"w": torch.zeros(1)}, None, {})


def test_results_of_a_run_keep_the_side(seeded_model, moved_set):
    file = moved_set / "annotations.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["laterality"] = "L" if image["id"] % 2 else "R"
    file.write_text(json.dumps(content))
    data = load_dataset(moved_set, "val")
    results = results_on(seeded_model.detector, seeded_model.recipe.input.geometry, data)
    assert [result.laterality for result in results] == ["R", "L", "R", "L"]
    found = (Finding(Box(0, 0, 5, 5), 0.5),)
    assert case_of(data[0], found).result.laterality == Laterality.RIGHT


def test_a_run_follows_its_data_set(moved_set, tiny_recipe, tmp_path):
    recipe = load_recipe(tiny_recipe(tmp_path / "run", data__dataset=str(moved_set)))
    fingerprint = load_dataset(moved_set).fingerprint()
    run = RunFolder.open(recipe.run_folder, recipe, fingerprint)
    run.save(checkpoint())
    there = moved_set.rename(tmp_path / "there")
    with pytest.raises(TrainingError, match=r"no longer in .* say with --dataset"):
        data_of(run)
    assert data_of(run, there).fingerprint() == fingerprint
    again = load_recipe(tiny_recipe(tmp_path / "run", data__dataset=str(there)))
    resumed = RunFolder.open(again.run_folder, again, fingerprint)
    assert data_of(resumed).fingerprint() == fingerprint
    (there / "images/00.png").write_bytes((there / "images/01.png").read_bytes())
    with pytest.raises(TrainingError, match="no longer the one"):
        data_of(resumed)


class FullDisk:
    """A file on a disk that is full after some bytes: torch turns what it raises into an error about its own count."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, _content):
        raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_at_the_first_checkpoint_is_told_as_it_is(tiny_recipe, tmp_path, monkeypatch):
    recipe = load_recipe(tiny_recipe(tmp_path / "run"))
    run = RunFolder.open(recipe.run_folder, recipe, "f")
    monkeypatch.setattr("mammoscope.training.checkpoint._Stream", lambda stream: _Stream(FullDisk(stream)))
    nothing = r"could not be written \(No space left on device\): there is no checkpoint yet, so the run begins anew"
    with pytest.raises(TrainingError, match=nothing):
        run.save(checkpoint())
    with pytest.raises(TrainingError, match=nothing):
        run.save_best({}, 1, 0.5)
    monkeypatch.undo()
    run.save(checkpoint())
    monkeypatch.setattr("mammoscope.training.checkpoint._Stream", lambda stream: _Stream(FullDisk(stream)))
    for save in (lambda: run.save(checkpoint()), lambda: run.save_best({}, 1, 0.5)):
        with pytest.raises(TrainingError, match="the last checkpoint is safe"):
            save()
    assert [path.name for path in run.path.glob("*.p*t")] == ["checkpoint.pt"]


def test_ctrl_c_while_a_checkpoint_is_written_is_no_full_disk(tiny_recipe, tmp_path, monkeypatch):
    recipe = load_recipe(tiny_recipe(tmp_path / "run"))
    run = RunFolder.open(recipe.run_folder, recipe, "f")
    write = _Stream.write

    def interrupted(self, content):
        signal.raise_signal(signal.SIGINT)
        return write(self, content)

    monkeypatch.setattr(_Stream, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.save(checkpoint())
    assert run.load().iteration == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("schedule.iteratons=3", "schedule.iteratons: a recipe has no such key; did you mean schedule.iterations?"),
        ("detector.rows=64", "detector.rows: a recipe has no such key; did you mean input.rows?"),
        ("shedule.batch=3", "shedule: a recipe has no such key; did you mean schedule?"),
        ("input.rows=65", "input.rows: it has to be a multiple of 32, not 65"),
        ("schedule.batch=0", "schedule.batch: it has to be 1 or more, not 0"),
        ("input.crop='all'", "input.crop: it has to be one of 'breast' or 'none', not 'all'"),
        ("name=''", "name: it has to be of the form ^[a-z0-9]"),
        ("schedule.batch='many'", "schedule.batch: it has to be a whole number, not 'many'"),
    ],
)
def test_a_wrong_key_or_value_is_told_in_our_words(tiny_recipe, tmp_path, change, said):
    with pytest.raises(TrainingError) as error:
        load_recipe(tiny_recipe(tmp_path / "run"), (change,))
    assert said in str(error.value)


def test_recipes_are_found_by_name(root, tmp_path, monkeypatch):
    assert shipped_recipes() == root / "recipes"
    monkeypatch.chdir(tmp_path)
    assert recipe_file(Path("cpu")) == root / "recipes/cpu.toml"
    assert recipe_file(Path("paper/retinanet-r50")) == root / "recipes/paper/retinanet-r50.toml"
    assert load_recipe(recipe_file(Path("gpu/best"))).schedule.precision == "bf16"
    with pytest.raises(TrainingError, match="did you mean cpu-long"):
        recipe_file(Path("cpu-lon"))
    with pytest.raises(TrainingError, match="there is no recipe"):
        recipe_file(Path("../pyproject"))


@pytest.mark.filterwarnings("error")
def test_half_precision_on_a_cpu_is_single_precision_without_a_warning():
    precision = MixedPrecision(precision_on(torch.device("cpu"), "fp16"), torch.device("cpu"))
    layer = torch.nn.Linear(2, 1)
    optimiser = torch.optim.SGD(layer.parameters(), 0.1)
    with precision.autocast():
        loss = layer(torch.ones(1, 2)).sum()
    assert loss.dtype == torch.float32
    before = layer.bias.detach().numpy().copy()
    precision.scaled(loss).backward()
    precision.step(optimiser, None)
    assert np.allclose(layer.bias.detach().numpy(), before - 0.1)
