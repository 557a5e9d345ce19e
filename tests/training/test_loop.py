"""Trainings of seconds. A watcher that raises stands for a kill: what is on disk is all that is left."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from mammoscope.training import RunFolder, Step, TrainingError, load_recipe, train


class Watcher:
    """Remembers what it was told; stops the training after an iteration if asked to."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.images: list[tuple[int, int]] = []
        self.resumed_at: list[int] = []
        self.steps: list[Step] = []
        self.validations: list[tuple[int, dict[str, Any]]] = []
        self.stopped: tuple[int, int] | None = None

    def prepared(self, done: int, total: int) -> None:
        self.images.append((done, total))

    def resumed(self, iteration: int) -> None:
        self.resumed_at.append(iteration)

    def stepped(self, step: Step) -> None:
        self.steps.append(step)
        if step.iteration == self.stop_after:
            raise KeyboardInterrupt

    def validated(self, iteration: int, figures: dict[str, Any]) -> None:
        self.validations.append((iteration, figures))

    def stopped_early(self, iteration: int, best: int) -> None:
        self.stopped = (iteration, best)


def assert_same_weights(one: RunFolder, other: RunFolder) -> None:
    first, second = one.load(), other.load()
    assert first.iteration == second.iteration
    for ours, theirs in ((first.detector, second.detector), (first.best_state, second.best_state)):
        assert list(ours) == list(theirs)
        for name in ours:
            assert torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-6), name


def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(killed_run, tiny_recipe, tmp_path: Path):
    watcher = Watcher()
    unbroken = train(load_recipe(tiny_recipe(tmp_path / "unbroken")), watcher)

    assert killed_run.second.returncode == 0, killed_run.second.stderr
    assert_same_weights(RunFolder(killed_run.folder), unbroken)

    assert [step.iteration for step in watcher.steps] == list(range(1, 25))
    assert watcher.steps[-1].progress == 1
    assert 0 < watcher.steps[-1].seconds_left < watcher.steps[0].seconds_left  # the closing report is still to come
    assert watcher.resumed_at == []
    ((iteration, figures),) = watcher.validations
    assert iteration == 12
    losses = [step.loss for step in watcher.steps]
    assert sum(losses[-6:]) < sum(losses[:6])
    curves = [json.loads(line) for line in (unbroken.path / "curves.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in curves] == [10, 12, 20]
    assert curves[1]["validation"] == figures


def test_faster_rcnn_too_goes_on_as_if_unbroken(tiny_recipe, tmp_path: Path):
    def recipe(folder: Path):
        changes = {"schedule__iterations": 4, "schedule__accumulate": 2, "run__checkpoint_every": 2}
        return load_recipe(tiny_recipe(folder, detector__architecture="faster_rcnn", detector__norm="none", **changes))

    unbroken = train(recipe(tmp_path / "unbroken"), Watcher())
    with pytest.raises(KeyboardInterrupt):
        train(recipe(tmp_path / "broken"), Watcher(stop_after=3))
    assert RunFolder(tmp_path / "broken").load().iteration == 2
    again = Watcher()
    broken = train(recipe(tmp_path / "broken"), again)

    assert again.resumed_at == [2]
    assert [step.iteration for step in again.steps] == [3, 4]
    assert_same_weights(broken, unbroken)


def test_a_batch_in_parts_learns_the_same(tiny_recipe, tmp_path: Path):
    changes = {"schedule__iterations": 2, "schedule__ema": 0.0, "optimiser__kind": "sgd", "schedule__decay": "steps"}
    whole, parts = (
        train(load_recipe(tiny_recipe(tmp_path / str(n), schedule__accumulate=n, **changes)), Watcher()).load()
        for n in (1, 4)
    )

    assert whole.averaged is None
    for name, value in whole.detector.items():
        assert torch.allclose(value, parts.detector[name], rtol=1e-3, atol=1e-5), name


def test_a_run_ends_when_its_minutes_are_used_up(tiny_recipe, tmp_path: Path):
    watcher = Watcher()
    weights = tmp_path / "backbone.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), weights)
    changes = {"schedule__iterations": 100_000, "schedule__minutes": 0.02, "detector__weights": str(weights)}
    recipe = load_recipe(tiny_recipe(tmp_path / "run", **changes))
    run = train(recipe, watcher)

    assert 1 <= run.load().iteration < 100_000
    assert run.load().minutes >= 0.02
    assert all(step.seconds_left > 0 for step in watcher.steps)

    weights.unlink()  # a run that goes on has its weights in the checkpoint
    again = Watcher()
    train(recipe, again)
    assert again.resumed_at == [watcher.steps[-1].iteration]
    assert again.steps == []


def test_a_loss_that_is_no_number_stops_the_run_and_spares_the_checkpoint(tiny_recipe, tmp_path: Path):
    changes = {"optimiser__learning_rate": 1e30, "optimiser__kind": "sgd", "optimiser__clip_norm": None}
    recipe = load_recipe(tiny_recipe(tmp_path / "run", run__checkpoint_every=1, **changes))

    with pytest.raises(TrainingError, match=r"no longer (a number|numbers) at iteration .*lower optimiser\.learning"):
        train(recipe, Watcher())
    run = RunFolder(tmp_path / "run")
    if run.has_checkpoint:
        assert all(torch.isfinite(value).all() for value in run.load().detector.values())


def test_a_checkpoint_of_another_model_is_refused(tiny_recipe, tmp_path: Path):
    recipe = load_recipe(tiny_recipe(tmp_path / "run", schedule__iterations=1))
    run = train(recipe, Watcher())
    checkpoint = torch.load(run.path / "checkpoint.pt", weights_only=True)
    checkpoint["detector"].popitem()
    torch.save(checkpoint, run.path / "checkpoint.pt")

    with pytest.raises(TrainingError, match="is of another model"):
        train(recipe, Watcher())
