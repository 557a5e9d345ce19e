import json
from pathlib import Path

import pytest

from mammoscope.datasets import (
    DatasetError,
    divide_into_folds,
    folds_of,
    import_coco,
    load_dataset,
    split_dataset,
    with_fold_apart,
)


@pytest.fixture
def folder(collection, tmp_path: Path) -> Path:
    """Twenty patients with two images each; of every five one has no box, one two boxes an image, the others one."""
    first = collection.images / collection.coco["images"][0]["file_name"]
    images, annotations = [], []
    for patient in range(20):
        for view in ("CC", "MLO"):
            name = f"{patient:05}_LEFT_{view}.png"
            if not (collection.images / name).exists():
                (collection.images / name).hardlink_to(first)
            images.append({"id": len(images), "file_name": name, "height": 40, "width": 50})
            for _ in range((1, 1, 1, 2, 0)[patient % 5]):
                box = {"id": len(annotations), "image_id": images[-1]["id"], "category_id": 0, "bbox": [1, 1, 9, 9]}
                annotations.append(box)
    collection.change(lambda coco: coco.update(images=images, annotations=annotations))
    import_coco(collection.annotations, collection.images, tmp_path / "set")
    return tmp_path / "set"


def test_folds_are_even_and_by_patient(folder: Path):
    summary = divide_into_folds(folder, 5)
    data = load_dataset(folder)

    assert list(summary.images) == [1, 2, 3, 4, 5]
    assert set(summary.images.values()) == {8}
    assert set(summary.patients.values()) == {4}
    assert set(summary.boxes.values()) == {8}
    for patient in data.patients:
        assert len({image.fold for image in data if image.patient == patient}) == 1
    assert folds_of(data) == (1, 2, 3, 4, 5)


def test_each_image_validates_once(folder: Path):
    divide_into_folds(folder, 4)
    data = load_dataset(folder)
    validating = [image.id for fold in folds_of(data) for image in with_fold_apart(data, fold).narrowed("val")]

    assert sorted(validating) == [image.id for image in data]
    for fold in folds_of(data):
        apart = with_fold_apart(data, fold)
        assert not set(apart.narrowed("train").patients) & set(apart.narrowed("val").patients)
        assert len(apart.narrowed("train")) + len(apart.narrowed("val")) == len(data)


def test_test_images_are_in_no_fold_and_splits_stay(folder: Path):
    split_dataset(folder, val=0.2, test=0.25)
    before, fingerprint = load_dataset(folder, "val"), load_dataset(folder).fingerprint()
    divide_into_folds(folder, 3)
    data = load_dataset(folder)

    assert load_dataset(folder, "val").patients == before.patients
    assert data.fingerprint() == fingerprint
    assert {image.fold for image in data.narrowed("test")} == {None}
    assert None not in {image.fold for split in ("train", "val") for image in data.narrowed(split)}
    assert with_fold_apart(data, 2).narrowed("test").patients == data.narrowed("test").patients


def test_the_same_seed_gives_the_same_folds_and_others_need_force(folder: Path):
    first = divide_into_folds(folder, 5, seed=3)
    assert divide_into_folds(folder, 5, seed=3) == first
    for arguments in ({"folds": 4, "seed": 3}, {"folds": 5, "seed": 4}):
        with pytest.raises(DatasetError, match="--force"):
            divide_into_folds(folder, **arguments)
    assert divide_into_folds(folder, 5, seed=4, force=True).hash != first.hash
    assert divide_into_folds(folder, 5, seed=3, force=True) == first


def test_folds_that_were_changed_are_refused_until_divided_anew(folder: Path):
    divide_into_folds(folder, 5)
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    for entry in content["images"]:
        entry["fold"] = entry["fold"] % 5 + 1
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"not those that folds\.json locked"):
        load_dataset(folder)

    content["images"][0]["fold"] = content["images"][0]["fold"] % 5 + 1
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="one patient in two folds"):
        load_dataset(folder)
    divide_into_folds(folder, 5, force=True)
    assert folds_of(load_dataset(folder)) == (1, 2, 3, 4, 5)


def test_a_new_split_takes_the_folds_away(folder: Path):
    split_dataset(folder, val=0.2)
    divide_into_folds(folder, 5)
    split_dataset(folder, val=0.2, test=0.2, force=True)

    assert not (folder / "folds.json").exists()
    with pytest.raises(DatasetError, match=r"not divided into folds: do so with .*--folds 5"):
        folds_of(load_dataset(folder))


def test_what_cannot_be_divided_is_told(folder: Path):
    with pytest.raises(DatasetError, match="needs two folds or more"):
        divide_into_folds(folder, 1)
    with pytest.raises(DatasetError, match="has 20 patients: too few for 21 folds"):
        divide_into_folds(folder, 21)
    divide_into_folds(folder, 5)
    with pytest.raises(DatasetError, match="has no fold 6: it has the folds 1 to 5"):
        with_fold_apart(load_dataset(folder), 6)
