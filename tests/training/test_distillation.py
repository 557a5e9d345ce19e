"""A student learns what its teacher says of the same picture; memory that is too small; what is told of faults."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from mammoscope.detectors import MassDetector, Truth, build_detector
from mammoscope.detectors.losses import distillation_losses
from mammoscope.training import TrainingError, load_recipe, train
from mammoscope.training.callbacks import Unwatched
from mammoscope.training.checkpoint import RunFolder
from mammoscope.training.distillation import Teacher, grids
from mammoscope.training.onnx_export import trained_detector

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(tiny_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    return train(load_recipe(tiny_recipe(folder, schedule__iterations=12)), Unwatched())


def student(tiny_recipe, folder: Path, teacher: RunFolder, *changes: str, **sections: object):
    return load_recipe(tiny_recipe(folder, **sections), (f"distill.teacher={teacher.path}", *changes))


def no_truth(count: int) -> Truth:
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return Truth.from_targets([empty] * count)


def test_a_network_has_nothing_to_learn_from_itself(tiny_recipe, teacher: RunFolder, tmp_path: Path):
    recipe = student(tiny_recipe, tmp_path / "run", teacher)
    images = torch.rand(2, 1, 64, 64)
    soft = Teacher(recipe, CPU).taught(images, no_truth(2)).soft
    assert soft is not None
    network = trained_detector(teacher).network
    dense = network.dense(images)
    assert [tuple(scores.shape[1:3]) for scores, _ in dense] == grids(64, 64)
    assert torch.allclose(soft.scores, torch.cat([scores.flatten(1, 3) for scores, _ in dense], dim=1), atol=1e-6)
    pixels = network.transform(images.expand(-1, 3, -1, -1))[0].tensors
    features = list(network.backbone(pixels).values())
    said = network.head(features)
    anchors = torch.cat(network.anchor_generator.per_level((64, 64), features))
    losses = distillation_losses(soft, said["cls_logits"], said["bbox_regression"], anchors)
    assert all(value.abs() < 1e-4 for value in losses.values())


def test_a_teacher_of_another_size_speaks_of_the_students_pixels(tiny_recipe, teacher: RunFolder, tmp_path: Path):
    changes = ("input.rows=96", "input.columns=96", "detector.anchor_scale=24")
    recipe = student(tiny_recipe, tmp_path / "run", teacher, *changes)
    large = torch.nn.functional.interpolate(torch.rand(1, 1, 8, 8), (96, 96), mode="bicubic").clamp(0, 1)
    soft = Teacher(recipe, CPU).taught(large, no_truth(1)).soft
    assert soft is not None
    assert soft.scores.shape[1] == sum(rows * columns for rows, columns in grids(96, 96)) * 9
    [found] = trained_detector(teacher)(
        torch.nn.functional.interpolate(large, (64, 64), mode="bilinear", antialias=True)
    )
    best = int(soft.scores[0, :, 0].argmax())
    nearest = (found["boxes"] * 1.5 - soft.boxes[0, best]).abs().amax(dim=1).min()
    assert nearest < 6
    assert abs(float(soft.scores.max()) - float(found["scores"].detach().max())) < 0.1


def test_a_fresh_network_comes_closer_to_its_teacher(tiny_recipe, teacher: RunFolder, tmp_path: Path):
    recipe = student(tiny_recipe, tmp_path / "run", teacher)
    torch.manual_seed(1)
    images, fresh = torch.rand(2, 1, 64, 64), build_detector(recipe.detector).train()
    truth = Teacher(recipe, CPU).taught(images, no_truth(2))
    optimiser = torch.optim.AdamW(fresh.parameters(), 1e-3)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        said = fresh(images, truth)
        distilled = said["distilled_classification"] + said["distilled_bbox_regression"]
        distilled.backward()
        optimiser.step()
        losses.append(float(distilled.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_a_student_goes_on_after_a_kill_as_if_unbroken(tiny_recipe, teacher: RunFolder, tmp_path: Path):
    class Killed(Unwatched):
        def stepped(self, step):
            if step.iteration == 6:
                raise KeyboardInterrupt

    changes = ("distill.weight=2.0",)
    whole = train(student(tiny_recipe, tmp_path / "whole", teacher, *changes, schedule__iterations=8), Unwatched())
    broken = student(tiny_recipe, tmp_path / "broken", teacher, *changes, schedule__iterations=8)
    with pytest.raises(KeyboardInterrupt):
        train(broken, Killed())
    again = train(broken, Unwatched())
    for name, value in whole.load().detector.items():
        assert torch.allclose(value, again.load().detector[name], atol=1e-5), name
    assert whole.recipe().distill.teacher == teacher.path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (('detector.classes=["Mass", "Other"]',), "it knows the classes Mass; give both the same"),
        (("detector.anchor_scale=32",), "set detector.anchor_scale to about 16"),
        (('input.crop="none"',), 'give both input.crop = "breast"'),
        (('detector.architecture="faster_rcnn"', 'detector.norm="none"'), 'have to be architecture = "retinanet"'),
    ],
)
def test_a_teacher_that_cannot_teach_is_told(tiny_recipe, teacher: RunFolder, tmp_path: Path, changes, told: str):
    with pytest.raises(TrainingError, match=told):
        Teacher(student(tiny_recipe, tmp_path / "run", teacher, *changes), CPU)


@pytest.mark.slow
def test_memory_that_is_too_small_gets_the_batch_in_parts(tiny_recipe, tmp_path: Path, monkeypatch):
    real, sizes, notes = MassDetector.forward, [], []

    def small(self, images, targets=None):
        if self.training:
            sizes.append(len(images))
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, images, targets)

    class Watch(Unwatched):
        def noted(self, sentence):
            notes.append(sentence)

    plain = train(load_recipe(tiny_recipe(tmp_path / "plain", schedule__iterations=2)), Unwatched())
    monkeypatch.setattr(MassDetector, "forward", small)
    cut = train(load_recipe(tiny_recipe(tmp_path / "cut", schedule__iterations=2)), Watch())
    assert sizes == [4, 2, 2, 2, 2]
    assert notes[-1].startswith(
        "the device's memory is too small for 4 images at once: each batch of 4 is computed in 2"
    )
    for name, value in plain.load().detector.items():
        assert torch.allclose(value, cut.load().detector[name], atol=1e-4), name

    def none(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MassDetector, "forward", none)
    with pytest.raises(TrainingError, match="memory does not hold 1 image of 64 x 64 pixels"):
        train(load_recipe(tiny_recipe(tmp_path / "none", schedule__iterations=2)), Unwatched())
