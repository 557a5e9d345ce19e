import json

import numpy as np
import pytest

from mammoscope.datasets import DatasetError, import_coco, load_dataset, split_dataset


@pytest.fixture
def folder(collection, tmp_path):
    """200 patients with one or two images and up to four boxes an image, some without any."""
    rng = np.random.default_rng(4)
    first = collection.images / collection.coco["images"][0]["file_name"]
    images, annotations = [], []
    for patient in range(200):
        for view in ("CC", "MLO")[: rng.integers(1, 3)]:
            name = f"{patient:05}_LEFT_{view}.png"
            if not (collection.images / name).exists():
                (collection.images / name).hardlink_to(first)
            image_id = len(images)
            images.append({"id": image_id, "file_name": name, "height": 40, "width": 50})
            for _ in range(rng.choice([0, 1, 2, 4], p=[0.3, 0.5, 0.15, 0.05])):
                annotations.append(
                    {"id": len(annotations), "image_id": image_id, "category_id": 0, "bbox": [1, 1, 9, 9]}
                )
    collection.change(lambda coco: coco.update(images=images, annotations=annotations))
    import_coco(collection.annotations, collection.images, tmp_path / "set")
    return tmp_path / "set"


def test_shares_are_met_and_no_patient_is_in_two(folder):
    summary = split_dataset(folder, val=0.15, test=0.2, seed=1)
    dataset = load_dataset(folder)
    for counted, total in ((summary.images, len(dataset)), (summary.boxes, dataset.n_boxes)):
        assert counted["val"] / total == pytest.approx(0.15, abs=0.02)
        assert counted["test"] / total == pytest.approx(0.2, abs=0.02)
    splits_of = {patient: {i.split for i in dataset if i.patient == patient} for patient in dataset.patients}
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert summary.patients == {split: len(load_dataset(folder, split).patients) for split in ("train", "val", "test")}


def test_images_without_boxes_are_in_every_split(folder):
    split_dataset(folder, val=0.15, test=0.2, seed=1)
    shares = {
        split: np.mean([not image.boxes for image in load_dataset(folder, split)]) for split in ("train", "val", "test")
    }
    assert max(shares.values()) - min(shares.values()) < 0.1


def test_the_same_seed_gives_the_same_split(folder):
    first = split_dataset(folder, seed=1)
    again = split_dataset(folder, seed=1, force=True)
    other = split_dataset(folder, seed=2, force=True)
    assert first == again
    assert first.hash != other.hash


def test_the_order_of_images_does_not_matter(folder):
    first = split_dataset(folder)
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    content["images"].reverse()
    path.write_text(json.dumps(content))
    assert split_dataset(folder, force=True).hash == first.hash


def test_another_split_is_refused_without_force(folder):
    first = split_dataset(folder, val=0.15, seed=1)
    assert split_dataset(folder, val=0.15, seed=1) == first
    for arguments in ({"val": 0.2}, {"val": 0.15, "seed": 2}, {"val": 0.15, "test": 0.1}):
        with pytest.raises(DatasetError, match="--force"):
            split_dataset(folder, **arguments)
    assert load_dataset(folder, "val").n_boxes == first.boxes["val"]


def test_a_split_that_came_with_the_collection_is_kept(folder):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["split"] = "train"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="--force"):
        split_dataset(folder)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0), (1, 0), (0.5, 0.5), (float("nan"), 0), (0.1, 1.5)])
def test_shares_that_make_no_sense(folder, val, test):
    with pytest.raises(DatasetError, match="leave something to train on"):
        split_dataset(folder, val=val, test=test)
    assert not (folder / "splits.json").exists()


def test_too_few_patients(collection, tmp_path):
    collection.change(lambda coco: coco.update(images=coco["images"][:4], annotations=[]))
    import_coco(collection.annotations, collection.images, tmp_path / "two")
    with pytest.raises(DatasetError, match="has 2 patients: too few for 3 splits"):
        split_dataset(tmp_path / "two", val=0.2, test=0.2)
    assert split_dataset(tmp_path / "two", val=0.2).patients == {"train": 1, "val": 1}
