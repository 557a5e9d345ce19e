"""Trainings of seconds. A watcher that raises stands for a kill: what is on disk is all that is left."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from mammoscope.detectors import build_detector
from mammoscope.training import RunFolder, Step, TrainingError, load_recipe, train
from mammoscope.training.logger import read_curves
from mammoscope.training.recipe import Recipe


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
    assert sum(curves[0]["losses"].values()) == pytest.approx(curves[0]["loss"])

    # After the kill the curves go on where the checkpoint was: nothing stands twice, nothing is missing.
    resumed = read_curves(killed_run.folder)
    assert [line["iteration"] for line in resumed] == [10, 12, 20]
    assert resumed[2]["loss"] == pytest.approx(curves[2]["loss"], abs=1e-5)
    starts = [json.loads(line) for line in (killed_run.folder / "starts.jsonl").read_text().splitlines()]
    assert [start["iteration"] for start in starts] == [0, killed_run.iteration_when_killed]
    assert starts[0]["processes"] == 1


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


# At 64 pixels the coarsest map has one pixel, for which torch 2.15's bf16 on a CPU gives random gradients.
@pytest.mark.parametrize(("precision", "side"), [("bf16", 256), ("fp16", 64)])
def test_in_16_bits_too_a_killed_run_goes_on_as_if_unbroken(
    precision: str, side: int, tiny_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mammoscope.training.trainer.precision_on", lambda _, asked: asked)  # as on a GPU

    def recipe(folder: Path):
        changes = {"schedule__iterations": 3, "schedule__precision": precision, "run__checkpoint_every": 1}
        changes |= {"input__rows": side, "input__columns": side, "schedule__batch": 2, "optimiser__kind": "sgd"}
        return load_recipe(tiny_recipe(folder, **changes))

    unbroken = train(recipe(tmp_path / "unbroken"), Watcher())
    with pytest.raises(KeyboardInterrupt):
        train(recipe(tmp_path / "broken"), Watcher(stop_after=2))
    broken = train(recipe(tmp_path / "broken"), Watcher())

    assert_same_weights(broken, unbroken)
    saved = broken.load()
    assert all(value.dtype != torch.bfloat16 for value in saved.detector.values())
    assert ("scale" in saved.scale) == (precision == "fp16")
    assert saved.scale == unbroken.load().scale


def test_a_run_without_progress_ends_early_and_keeps_the_best(tiny_recipe, tmp_path: Path):
    # After the eighth iteration steps are too small to move any figure.
    changes = {"schedule__decay": "steps", "schedule__milestones": [8], "schedule__factor": 1e-9, "schedule__ema": 0.0}
    file = tiny_recipe(tmp_path / "run", schedule__iterations=40, run__validate_every=4, **changes)
    with file.open("a") as stream:
        stream.write('\n[selection]\npatience = 2\nkeep = "best"\n')
    recipe, watcher = load_recipe(file), Watcher()
    run = train(recipe, watcher)

    figures = {at: shown["ap50"] for at, shown in watcher.validations if shown}
    best = max(figures, key=lambda at: (figures[at], -at))
    assert best <= 8
    assert run.load().iteration == best + 8 == watcher.validations[-1][0]
    assert watcher.stopped == (best + 8, best)
    state, iteration = run.chosen_state()
    assert iteration == best
    assert list(state) == list(run.load().detector)

    again = Watcher()
    train(recipe, again)
    assert again.steps == []
    assert again.stopped == watcher.stopped


def test_the_best_validation_is_kept_also_through_a_kill(tiny_recipe, tmp_path: Path):
    def recipe(folder: Path):
        changes = {"schedule__iterations": 12, "run__validate_every": 3, "run__checkpoint_every": 2}
        file = tiny_recipe(folder, **changes)
        with file.open("a") as stream:
            stream.write('\n[selection]\nkeep = "best"\nfigure = "map50"\n')
        return load_recipe(file)

    watcher = Watcher()
    unbroken = train(recipe(tmp_path / "unbroken"), watcher)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(tmp_path / "broken"), Watcher(stop_after=9))
    broken = train(recipe(tmp_path / "broken"), Watcher())

    assert [at for at, _ in watcher.validations] == [3, 6, 9, 12]
    figures = {at: shown["map50"] for at, shown in watcher.validations if shown}
    best = max(figures, key=lambda at: (figures[at], -at))
    assert unbroken.load().selection["iteration"] == best
    assert broken.load().selection == unbroken.load().selection
    (state, iteration), (other, same) = unbroken.chosen_state(), broken.chosen_state()
    assert iteration == same == best
    assert all(torch.allclose(state[name], other[name], rtol=0, atol=1e-6) for name in state)
    assert read_curves(broken.path)[-1] == read_curves(unbroken.path)[-1]


@pytest.mark.parametrize(
    ("architecture", "box_loss"), [("retinanet", "l1"), ("retinanet", "giou"), ("faster_rcnn", "l1")]
)
def test_an_image_without_masses_teaches_that_there_are_none(architecture: str, box_loss: str, tiny_recipe, tmp_path):
    changes = {"detector__architecture": architecture, "detector__box_loss": box_loss, "detector__norm": "none"}
    recipe = load_recipe(tiny_recipe(tmp_path, **changes))
    torch.manual_seed(0)
    detector = build_detector(recipe.detector)
    images = torch.rand(2, 1, 64, 64)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    optimiser = torch.optim.SGD(detector.parameters(), lr=0.01)
    given = []
    for _ in range(3):
        torch.manual_seed(1)
        losses = detector.train()(images, [nothing, nothing])
        assert all(torch.isfinite(loss) for loss in losses.values())
        given.append(float(sum(losses.values())))
        optimiser.zero_grad()
        sum(losses.values()).backward()
        assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)
        optimiser.step()

    # Every score on such an image is a false alarm: the loss presses it down.
    assert given[0] > given[1] > given[2]


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


def recipe_that_starts_with(start: Path, written: Path) -> Recipe:
    written.write_text(f'start = "{start}"\n' + written.read_text())
    return load_recipe(written)


def test_a_run_begins_with_the_averaged_weights_of_another(tiny_recipe, tmp_path: Path):
    first = train(load_recipe(tiny_recipe(tmp_path / "first", schedule__iterations=3)), Watcher())
    # A learning rate too small to move a weight: what comes out is what went in.
    still = tiny_recipe(tmp_path / "second", schedule__iterations=1, optimiser__learning_rate=1e-30)
    second = train(recipe_that_starts_with(first.path, still), Watcher())

    before, after = first.load(), second.load()
    assert after.iteration == 1
    for name, weights in before.best_state.items():
        assert torch.equal(after.detector[name], weights), name
    assert any(not torch.equal(before.detector[name], before.best_state[name]) for name in before.detector)


def test_a_run_cannot_begin_with_another_detector(tiny_recipe, tmp_path: Path):
    first = train(load_recipe(tiny_recipe(tmp_path / "first", schedule__iterations=1)), Watcher())
    other = tiny_recipe(tmp_path / "second", detector__fpn_channels=16)

    with pytest.raises(TrainingError, match=r"trained another detector than this recipe's: give start a run with"):
        train(recipe_that_starts_with(first.path, other), Watcher())


def test_a_run_cannot_begin_with_a_folder_that_is_none(tiny_recipe, tmp_path: Path):
    recipe = recipe_that_starts_with(tmp_path / "nowhere", tiny_recipe(tmp_path / "run"))

    with pytest.raises(TrainingError, match="has no checkpoint yet"):
        train(recipe, Watcher())
