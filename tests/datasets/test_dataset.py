import hashlib
import json
import shutil

import pytest

from mammoscope.datasets import (
    AnnotatedDataset,
    DatasetError,
    PatientUnknownError,
    import_coco,
    load_dataset,
    split_dataset,
)
from mammoscope.findings import Box


@pytest.fixture
def folder(collection, tmp_path):
    import_coco(collection.annotations, collection.images, tmp_path / "set", copy=True)
    return tmp_path / "set"


def change(folder, change):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_any_coco_set_as_it_stands(collection):
    dataset = AnnotatedDataset.from_coco(collection.annotations, collection.images)
    assert len(dataset) == 6
    assert dataset.n_boxes == 3
    assert dataset.patients == ("00001", "00002", "00003")
    assert dataset[0].path == collection.images / "00001_LEFT_CC.png"
    assert dataset.labels == ("Mass", "Calcification")


def test_images_are_ordered_by_id(collection):
    collection.change(lambda coco: coco["images"].reverse())
    assert [i.id for i in AnnotatedDataset.from_coco(collection.annotations, collection.images)] == [0, 1, 2, 3, 4, 5]


def test_boxes_are_clipped_and_counted(collection):
    collection.change(lambda coco: coco["annotations"][3].update(bbox=[-5, 30, 10, 10]))
    dataset = AnnotatedDataset.from_coco(collection.annotations, collection.images)
    assert dataset.clipped == 1
    assert dataset[4].boxes == (Box(0, 30, 5, 40),)


def test_each_image_a_patient_only_when_said(collection):
    for image in collection.coco["images"][:2]:
        name = f"scan{image['id']}.png"
        (collection.images / image["file_name"]).rename(collection.images / name)
        image["file_name"] = name
    collection.write()
    with pytest.raises(PatientUnknownError):
        AnnotatedDataset.from_coco(collection.annotations, collection.images)
    dataset = AnnotatedDataset.from_coco(collection.annotations, collection.images, each_image_a_patient=True)
    assert dataset.patients == ("00002", "00003", "scan0.png", "scan1.png")


def test_an_unreadable_image_keeps_its_stated_size(collection):
    (collection.images / "00001_LEFT_CC.png").write_bytes(b"nonsense")
    assert AnnotatedDataset.from_coco(collection.annotations, collection.images)[0].rows == 40


def test_not_a_data_set(tmp_path):
    with pytest.raises(DatasetError, match="not a data set's folder"):
        load_dataset(tmp_path)


def test_a_missing_image(folder):
    (folder / "images/00001_LEFT_CC.png").unlink()
    with pytest.raises(DatasetError, match="image 0"):
        load_dataset(folder)


def test_a_split_that_is_not_there(folder):
    with pytest.raises(DatasetError, match="split it with 'mammoscope dataset split'"):
        load_dataset(folder, "val")
    split_dataset(folder, val=0.3)
    with pytest.raises(DatasetError, match="it has train, val"):
        load_dataset(folder, "test")


def test_a_patient_in_two_splits(folder):
    def leak(content):
        for image in content["images"]:
            image["split"] = "train" if image["id"] % 2 else "val"

    change(folder, leak)
    with pytest.raises(DatasetError, match="one patient in two splits"):
        load_dataset(folder)


def test_splits_changed_by_hand(folder):
    split_dataset(folder, val=0.3)
    change(folder, lambda content: [image.update(split="train") for image in content["images"]])
    with pytest.raises(DatasetError, match=r"not those that splits\.json locked"):
        load_dataset(folder)
    split_dataset(folder, val=0.3, force=True)
    assert len(load_dataset(folder, "val")) == 2


def _of(content, split):
    return next(image for image in content["images"] if image["split"] == split)


def exchange_files(content):
    train, val = _of(content, "train"), _of(content, "val")
    train["file_name"], val["file_name"] = val["file_name"], train["file_name"]


def move_to_a_new_patient(content):
    _of(content, "train")["patient_id"] = "00009"


def remove_an_image(content):
    content["images"] = content["images"][:-1]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 5]


@pytest.mark.parametrize("changed", [exchange_files, move_to_a_new_patient, remove_an_image])
def test_the_lock_holds_files_and_patients_too(folder, changed):
    split_dataset(folder, val=0.3)
    change(folder, changed)
    with pytest.raises(DatasetError, match=r"not those that splits\.json locked.*--force"):
        load_dataset(folder)


def test_a_lock_over_ids_and_splits_alone_is_refused(folder):
    split_dataset(folder, val=0.3)
    lock = folder / "splits.json"
    images = load_dataset(folder)
    earlier = hashlib.sha256(json.dumps(sorted((i.id, i.split) for i in images)).encode()).hexdigest()
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"hash": earlier}))
    with pytest.raises(DatasetError, match=r"also if an earlier version divided it"):
        load_dataset(folder)


def test_blanks_around_a_patient_make_no_other_patient(folder):
    split_dataset(folder, val=0.3)
    (folder / "splits.json").unlink()

    def leak(content):
        _of(content, "train")["patient_id"] = f" {_of(content, 'val')['patient_id']} "

    change(folder, leak)
    with pytest.raises(DatasetError, match="one patient in two splits"):
        load_dataset(folder)
    split_dataset(folder, val=0.3, force=True)
    assert len({i.split for i in load_dataset(folder) if i.patient == "00002"}) == 1


@pytest.mark.parametrize("patient", [None, "", "  "])
def test_an_image_without_a_patient(folder, patient):
    change(folder, lambda content: content["images"][2].update(patient_id=patient))
    with pytest.raises(DatasetError, match="image 2 has no patient_id"):
        load_dataset(folder)


class TestFingerprint:
    def test_does_not_depend_on_the_place(self, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "elsewhere")
        assert load_dataset(folder).fingerprint() == load_dataset(tmp_path / "elsewhere").fingerprint()

    def test_changes_with_a_box(self, folder):
        before = load_dataset(folder).fingerprint()
        change(folder, lambda content: content["annotations"][0].update(bbox=[5, 10, 20, 8.5]))
        assert load_dataset(folder).fingerprint() != before

    def test_changes_with_a_pixel(self, folder):
        before = load_dataset(folder).fingerprint()
        path = folder / "images/00003_RIGHT_MLO.png"
        path.write_bytes(path.read_bytes() + b"\0")
        assert load_dataset(folder).fingerprint() != before

    def test_changes_with_the_split(self, folder):
        before = load_dataset(folder).fingerprint()
        split_dataset(folder, val=0.3)
        assert load_dataset(folder).fingerprint() != before


@pytest.mark.parametrize("made", [2, 0, "1", True, None])
def test_a_folder_of_a_newer_format_is_refused(folder, made):
    change(folder, lambda document: document["info"].update(mammoscope_format=made))
    with pytest.raises(DatasetError, match=rf"is a data set of format {made}, and this Mammoscope .* reads format 1"):
        load_dataset(folder)


def test_a_folder_says_its_format_and_one_that_does_not_is_of_the_first(folder):
    before = load_dataset(folder)
    assert json.loads((folder / "annotations.json").read_text())["info"]["mammoscope_format"] == 1
    change(folder, lambda document: document["info"].pop("mammoscope_format"))
    assert load_dataset(folder).images == before.images
