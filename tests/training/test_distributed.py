"""Two processes of ``accelerate launch`` beside one, on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mammoscope.training import RunFolder, load_recipe, train
from mammoscope.training.logger import read_curves

# The mean of two processes' gradients is the whole batch's but for the order of additions in 32 bits.
TOLERANCE = 1e-5


class StoppedError(Exception):
    """Stands for a kill."""


class Watcher:
    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after

    def prepared(self, done: int, total: int) -> None: ...

    def resumed(self, iteration: int) -> None: ...

    def stepped(self, step) -> None:
        if step.iteration == self.stop_after:
            raise StoppedError

    def validated(self, iteration: int, figures: dict) -> None: ...

    def stopped_early(self, iteration: int, best: int) -> None: ...


@pytest.fixture(scope="module")
def recipe_in(tiny_recipe):
    def write(folder: Path) -> Path:
        changes = {"schedule__iterations": 6, "schedule__minutes": 1000.0, "schedule__accumulate": 2}
        changes |= {"optimiser__kind": "sgd", "optimiser__learning_rate": 0.01, "schedule__decay": "steps"}
        return tiny_recipe(folder, run__checkpoint_every=3, run__validate_every=4, **changes)

    return write


@pytest.fixture(scope="module")
def alone(recipe_in, tmp_path_factory) -> RunFolder:
    return train(load_recipe(recipe_in(tmp_path_factory.mktemp("alone") / "run")), Watcher())


def launched(recipe: Path) -> subprocess.CompletedProcess[str]:
    # "accelerate launch --cpu" starts one process; this is what it starts for two GPUs, kept on the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*launch, "-m", "mammoscope", "train", str(recipe)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=550, env=environment)


def assert_like(one: RunFolder, other: RunFolder) -> None:
    first, second = one.load(), other.load()
    assert first.iteration == second.iteration == 6
    for ours, theirs in ((first.detector, second.detector), (first.best_state, second.best_state)):
        assert list(ours) == list(theirs)
        for name in ours:
            assert torch.allclose(ours[name], theirs[name], rtol=0, atol=TOLERANCE), name


def test_two_processes_learn_what_one_does_and_speak_once(alone: RunFolder, recipe_in, tmp_path: Path):
    run = RunFolder(tmp_path / "run")
    done = launched(recipe_in(run.path))
    spoken = done.stdout + done.stderr

    assert (run.path / "checkpoint.pt").is_file(), spoken
    assert_like(run, alone)
    assert [line["iteration"] for line in read_curves(run.path)] == [4]
    assert spoken.count("iteration 4: validation") == 1, spoken
    assert len((run.path / "starts.jsonl").read_text().splitlines()) == 1
    assert '"processes": 2' in (run.path / "starts.jsonl").read_text()
    assert not list(run.path.rglob("*.part"))


def test_two_processes_go_on_where_one_was_stopped(alone: RunFolder, recipe_in, tmp_path: Path):
    recipe = recipe_in(tmp_path / "run")
    with pytest.raises(StoppedError):
        train(load_recipe(recipe), Watcher(stop_after=5))
    run = RunFolder(tmp_path / "run")
    assert run.load().iteration == 3

    done = launched(recipe)
    assert "going on after iteration 3" in done.stderr, done.stderr
    assert_like(run, alone)
