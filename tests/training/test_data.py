import json
import shutil
from pathlib import Path

import pytest

from mammoscope.datasets import DatasetError, ReviewState, divide_into_folds, set_review
from mammoscope.training import TrainingError
from mammoscope.training.data import learnable, load_data
from mammoscope.training.recipe import DataSection


@pytest.fixture
def folder(tiny_dataset: Path, tmp_path: Path) -> Path:
    """The tiny data set; images say ``pathology``, and the box of image 1 says another than its image."""
    shutil.copytree(tiny_dataset, tmp_path / "set", ignore=shutil.ignore_patterns(".prepared"))
    path = tmp_path / "set" / "annotations.json"
    content = json.loads(path.read_text())
    kinds = ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK", "BENIGN")
    for entry in content["images"]:
        entry["attributes"] = {"pathology": kinds[entry["id"] % 4]}
    next(entry for entry in content["annotations"] if entry["image_id"] == 1)["pathology"] = "several"
    path.write_text(json.dumps(content))
    return tmp_path / "set"


def loaded(folder: Path, **section: object):
    return load_data(DataSection(dataset=folder, source="drawn", licence="CC0", **section))


def labels(data) -> dict[int, tuple[str, ...]]:
    return {image.id: image.labels for image in data}


def test_as_it_stands(folder: Path):
    data = loaded(folder)
    assert labels(data)[0] == ("Mass",)
    assert data.category_ids == {"Mass": 1}


def test_an_attribute_becomes_the_label_of_the_box_before_that_of_its_image(folder: Path):
    found = labels(loaded(folder, label_from="pathology"))

    # Every fourth image has no mass.
    assert (found[0], found[1], found[2], found[3]) == (("MALIGNANT",), ("several",), ("BENIGN_WITHOUT_CALLBACK",), ())


def test_labels_are_gathered_into_classes_and_what_is_unsure_is_left_out(folder: Path):
    classes = {"MALIGNANT": "Malignant", "BENIGN": "Benign", "BENIGN_WITHOUT_CALLBACK": "Benign"}
    data = loaded(folder, label_from="pathology", labels=classes, leave_out=("several",))

    assert 1 not in labels(data)
    assert len(data) == 11
    assert labels(data)[2] == ("Benign",)
    assert labels(data)[3] == ()
    assert data.category_ids == {"Benign": 1, "Malignant": 2}


def test_categories_too_can_be_renamed(folder: Path):
    assert labels(loaded(folder, labels={"Mass": "Lesion"}))[0] == ("Lesion",)


def test_an_attribute_that_no_box_has_is_refused(folder: Path):
    with pytest.raises(TrainingError, match="no box or image of data set set has the attribute 'shape'"):
        loaded(folder, label_from="shape")


def test_a_fold_is_the_validation_split(folder: Path):
    with pytest.raises(DatasetError, match="not divided into folds"):
        loaded(folder, fold=1)
    divide_into_folds(folder, 3)
    parts = [loaded(folder, fold=fold) for fold in (1, 2, 3)]

    assert sorted(image.id for data in parts for image in data.narrowed("val")) == list(range(12))
    assert len({data.fingerprint() for data in parts}) == 3
    assert len({learnable(data).fingerprint() for data in parts}) == 1


def test_only_what_an_expert_confirmed(folder: Path):
    with pytest.raises(TrainingError, match="no image of data set set is validated"):
        loaded(folder, validated_only=True)
    names = [str(image.facts["file_name"]) for image in loaded(folder)][:2]
    set_review(folder, names, ReviewState.VALIDATED, "dr a")
    assert [str(image.facts["file_name"]) for image in loaded(folder, validated_only=True)] == names


def test_images_that_nobody_annotated_are_set_aside_and_counted(folder: Path):
    """As negatives they would teach that what nobody marked is no lesion; one switch takes them for that."""
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    for entry in content["images"][:3]:
        entry["review"] = "unannotated"
    path.write_text(json.dumps(content))

    data = loaded(folder)

    assert (len(data), data.set_aside) == (9, 3)
    assert data.set_aside_told().startswith("3 of 12 images are unannotated and were set aside")
    everything = loaded(folder, count_unannotated=True)
    assert (len(everything), everything.set_aside, everything.set_aside_told()) == (12, 0, None)
    for entry in content["images"]:
        entry["review"] = "unannotated"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="all 12 images of data set set are unannotated"):
        loaded(folder)
