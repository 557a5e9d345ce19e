import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mammoscope.datasets import load_dataset
from mammoscope.imaging import Preprocessing, prepare, read_mammogram
from mammoscope.training import TrainingError
from mammoscope.training import data as samples
from mammoscope.training.data import PreparedSamples, TrainingBatches, prepare_samples
from mammoscope.training.recipe import AugmentationSection

INPUT = Preprocessing(64, 64)
STILL = AugmentationSection(horizontal_flip=0.0)
NO_BOXES, NONE, ONE = np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(1, np.int64)


@pytest.fixture(scope="module")
def learning(tiny_dataset: Path):
    return load_dataset(tiny_dataset, "train")


def test_training_sees_what_the_node_sees(learning, tmp_path: Path):
    prepared = prepare_samples(learning, ("Mass",), INPUT, tmp_path)

    assert len(prepared) == 8
    for index, image in enumerate(learning):
        node = prepare(read_mammogram(image.path), INPUT)
        (pixels,), (target,) = seen(prepared, STILL, (0, index))
        assert pixels.shape == (1, 64, 64)
        assert np.abs(pixels[0].numpy() - node.pixels).max() <= 0.5 / 255 + 1e-6
        boxes = node.placement.to_file(target["boxes"].numpy())
        assert boxes == pytest.approx(np.array([box.as_tuple() for box in image.boxes]).reshape(-1, 4), abs=0.01)
        assert target["labels"].tolist() == [0] * len(image.boxes)


def test_mammograms_are_prepared_once(learning, tmp_path: Path):
    calls = []
    prepare_samples(learning, ("Mass",), INPUT, tmp_path, lambda done, total: calls.append((done, total)))
    prepare_samples(learning, ("Mass",), INPUT, tmp_path, lambda *_: pytest.fail("prepared again"))

    assert calls == [(n, 8) for n in range(1, 9)]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_another_version_prepared_or_a_kill_left_is_made_anew(learning, tmp_path: Path):
    whole = prepare_samples(learning, ("Mass",), INPUT, tmp_path).pixels.copy()
    (file,) = tmp_path.glob("*.npy")

    np.save(file, whole // 2)
    assert np.array_equal(prepare_samples(learning, ("Mass",), INPUT, tmp_path).pixels, whole)
    file.write_bytes(file.read_bytes()[:500])
    assert np.array_equal(prepare_samples(learning, ("Mass",), INPUT, tmp_path).pixels, whole)


def test_a_label_that_is_no_class_is_refused(learning, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"has boxes labelled Mass, the recipe has the classes Calcification"):
        prepare_samples(learning, ("Calcification",), INPUT, tmp_path)


def test_a_cache_that_cannot_be_written_is_told(learning, tmp_path: Path):
    (tmp_path / "taken").write_text("a file where the folder should be")

    with pytest.raises(TrainingError, match=r"prepared mammograms could not be kept .* need 0 MB"):
        prepare_samples(learning, ("Mass",), INPUT, tmp_path / "taken")


def test_a_full_disk_while_preparing_is_told_and_leaves_nothing(
    learning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full, the disk that is always full")
    (tmp_path / "full.part").symlink_to("/dev/full")
    monkeypatch.setattr(samples.os, "getpid", lambda: "full")
    geometry = Preprocessing(256, 256)
    first = next(iter(tmp_path.glob("*.part")))
    name = f"prepared-{_key(learning, geometry)}.full.part"
    shutil.move(first, tmp_path / name)

    with pytest.raises(TrainingError, match=r"No space left on device.*need 1 MB"):
        prepare_samples(learning, ("Mass",), geometry, tmp_path)
    assert list(tmp_path.iterdir()) == []


def _key(dataset, geometry: Preprocessing) -> str:
    """The name that another, empty cache gives the same pictures."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        prepare_samples(dataset, ("Mass",), geometry, Path(folder))
        (file,) = Path(folder).glob("*.npy")
        return file.stem.removeprefix("prepared-")


def seen(samples: PreparedSamples, section: AugmentationSection, *keys: tuple[int, int], seed: int = 1):
    """Pictures of a batch and one target each."""
    images, truth = TrainingBatches(samples, section, seed, [keys], torch.device("cpu")).batch(keys)
    return images, truth.as_targets()


def one_sample(boxes: list) -> PreparedSamples:
    edges = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return PreparedSamples(np.zeros((1, 64, 64), np.uint8), [edges], [np.arange(len(edges))])


def test_slivers_are_no_targets():
    boxes = [[5, 5, 5.5, 40], [10, 10, 30, 30], [0, 0, 0, 0]]
    _, (target,) = seen(one_sample(boxes), STILL, (0, 0))

    assert target["boxes"].tolist() == [[10, 10, 30, 30]]
    assert target["labels"].tolist() == [1]


def test_a_batch_keeps_images_without_boxes():
    both = PreparedSamples(np.zeros((2, 64, 64), np.uint8), [np.array([[1.0, 2, 30, 40]]), NO_BOXES], [ONE, NONE])
    images, targets = seen(both, STILL, (0, 0), (0, 1))

    assert images.shape == (2, 1, 64, 64)
    assert targets[0]["boxes"].tolist() == [[1, 2, 30, 40]]
    assert targets[1]["boxes"].shape == (0, 4)
    assert targets[1]["boxes"].dtype == torch.float32
    assert targets[1]["labels"].dtype == torch.int64


def test_each_key_has_its_own_augmentation_whatever_else_is_in_the_batch():
    noisy = AugmentationSection(noise=0.5, sharpen=1.0, blur=2.0, gamma=0.3, curve=0.4, rotation_degrees=30)
    samples = PreparedSamples(
        np.random.default_rng(0).integers(0, 255, (2, 64, 64)).astype(np.uint8), [NO_BOXES] * 2, [NONE] * 2
    )
    alone, _ = seen(samples, noisy, (3, 0))
    among, _ = seen(samples, noisy, (7, 1), (3, 0), (4, 0))

    assert torch.allclose(alone[0], among[1], atol=1e-5)
    assert not torch.allclose(among[1], among[2], atol=0.01)
    assert not torch.allclose(alone, seen(samples, noisy, (3, 0), seed=2)[0], atol=0.01)


def test_pasted_masses_come_with_boxes_and_labels():
    # A box of its own in each picture; pasted ones bring the donor's class along.
    rng = np.random.default_rng(0)
    pixels = (0.3 * 255 + rng.integers(0, 3, (2, 96, 96))).astype(np.uint8)
    boxes = [np.array([[10.0, 10, 22, 22]]), np.array([[60.0, 60, 70, 74]])]
    prepared = PreparedSamples(pixels, boxes, [np.array([0]), np.array([1])])
    section = AugmentationSection(horizontal_flip=0.0, copy_paste=1.0)
    labels = set()
    for epoch in range(20):
        (image,), (target,) = seen(prepared, section, (epoch, 0))
        assert image.shape == (1, 96, 96)
        assert target["boxes"][0].tolist() == [10, 10, 22, 22]
        labels.add(tuple(target["labels"].tolist()))

    assert labels == {(0, 0), (0, 1)}


def test_without_any_mass_nothing_is_pasted():
    prepared = PreparedSamples(np.full((1, 64, 64), 80, np.uint8), [np.zeros((0, 4))], [np.zeros(0, np.int64)])

    _, (target,) = seen(prepared, AugmentationSection(copy_paste=1.0), (0, 0))

    assert len(target["boxes"]) == 0
