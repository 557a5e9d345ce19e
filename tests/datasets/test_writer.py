import json
import os

import pytest

from mammoscope.datasets import (
    DatasetError,
    ImagesAs,
    ImportedBox,
    ImportedImage,
    load_dataset,
    write_dataset,
)
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.datasets.writer import bring_image
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

NOTHING = ImageMarks((), Silence.NEGATIVE)


@pytest.fixture
def images(collection):
    """Two views of one patient and one of another, 40 rows by 50 columns each."""
    return [
        ImportedImage(
            collection.images / "00001_LEFT_CC.png", 40, 50, "p1", study="s1", laterality=Laterality.LEFT, view=View.CC,
            scanner="ACME One", spacing_mm=0.07, density=3, pathology="MALIGNANT", split="train",
            marks=ImageMarks((
                ImportedBox(Box(5, 10, 25, 18), "Mass", {"birads": "4"}, polygons=(((5, 10), (25, 10), (25, 18)),)),
                ImportedBox(Box(40, 30, 55, 40), "Calcification"),
                ImportedBox(Box(0, 0, 2, 2), "Mass", crowd=True),
            ), Silence.NEGATIVE),
            attributes={"birads": "4"}, origin={"file_name": "raw/1.dcm"},
        ),
        ImportedImage(collection.images / "00001_RIGHT_MLO.png", 40, 50, "p1", NOTHING, file_name="deep/er.png",
                      split="train"),
        ImportedImage(
            collection.images / "00002_LEFT_CC.png", 40, 50, "p2", ImageMarks((), Silence.UNANNOTATED), split="test",
        ),
    ]  # fmt: skip


def test_everything_reaches_the_folder(images, tmp_path):
    done = write_dataset(images, tmp_path / "out", name="ACME", licence="CC BY 4.0", citation="Doe 2020")

    assert (done.images, done.patients, done.boxes, done.crowds) == (3, 2, 2, 1)
    assert (done.images_without_boxes, done.clipped, done.copied) == (2, 1, 0)
    dataset = load_dataset(tmp_path / "out")
    assert [image.id for image in dataset] == [1, 2, 3]
    assert dataset[0].boxes == (Box(5, 10, 25, 18), Box(40, 30, 50, 40))
    assert dataset[0].labels == ("Mass", "Calcification")
    assert dataset[0].crowds == (Box(0, 0, 2, 2),)
    assert (dataset[0].laterality, dataset[0].view, dataset[0].split) == (Laterality.LEFT, View.CC, "train")
    assert dataset[1].path == tmp_path / "out/images/deep/er.png"
    assert dataset.category_ids == {"Calcification": 1, "Mass": 2}
    coco = json.loads((tmp_path / "out/annotations.json").read_text())
    assert coco["info"]["licence"] == "CC BY 4.0"
    assert coco["info"]["citation"] == "Doe 2020"
    entry = coco["images"][0]
    known = {key: entry[key] for key in ("study_id", "scanner", "spacing_mm", "density", "pathology", "origin")}
    assert known == {
        "study_id": "s1", "scanner": "ACME One", "spacing_mm": 0.07, "density": 3, "pathology": "MALIGNANT",
        "origin": {"file_name": "raw/1.dcm"},
    }  # fmt: skip
    assert coco["annotations"][0]["segmentation"] == [[5, 10, 25, 10, 25, 18]]
    assert coco["annotations"][0]["attributes"] == {"birads": "4"}


def test_labels_have_the_order_asked_for(images, tmp_path):
    write_dataset(images, tmp_path / "out", name="ACME", labels=["Mass", "Asymmetry"])
    assert load_dataset(tmp_path / "out").category_ids == {"Mass": 1, "Asymmetry": 2, "Calcification": 3}


@pytest.mark.parametrize(
    ("how", "linked", "symbolic"),
    [(ImagesAs.LINKED, True, False), (ImagesAs.SYMBOLIC, True, True), (ImagesAs.COPIED, False, False)],
)
def test_images_are_linked_or_copied(images, tmp_path, how, linked, symbolic):
    write_dataset(images, tmp_path / "out", name="ACME", images_as=how)
    there = tmp_path / "out/images/00001_LEFT_CC.png"
    assert there.samefile(images[0].path) is linked
    assert there.is_symlink() is symbolic


@pytest.mark.parametrize("how", [ImagesAs.LINKED, ImagesAs.COPIED])
def test_what_a_symbolic_link_points_to_is_copied_and_never_hard_linked(tmp_path, how):
    (tmp_path / "system").write_bytes(b"owned by another")
    (tmp_path / "image.png").symlink_to(tmp_path / "system")
    assert bring_image(tmp_path / "image.png", tmp_path / "brought.png", how)
    assert (tmp_path / "system").stat().st_nlink == 1
    assert not (tmp_path / "brought.png").is_symlink()
    assert (tmp_path / "brought.png").read_bytes() == b"owned by another"


@pytest.mark.parametrize("how", list(ImagesAs))
def test_what_is_no_file_is_refused(tmp_path, how):
    os.mkfifo(tmp_path / "image.png")
    with pytest.raises(DatasetError, match=r"image\.png is not a file"):
        bring_image(tmp_path / "image.png", tmp_path / "brought.png", how)


def refused(images, tmp_path, said):
    with pytest.raises(DatasetError, match=said):
        write_dataset(images, tmp_path / "out", name="ACME")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_faults_leave_nothing_behind(images, tmp_path, collection):
    one = images[0]
    refused([], tmp_path, "no images")
    refused([one, one], tmp_path, "would both become the image 00001_LEFT_CC.png")
    outside = ImportedImage(
        one.path, 40, 50, "p", marks=ImageMarks((ImportedBox(Box(60, 1, 70, 2), "Mass"),), Silence.NEGATIVE)
    )
    refused([outside], tmp_path, r"60\D.*outside its image of 40 rows and 50 columns")
    refused([ImportedImage(collection.images / "gone.png", 4, 5, "p", NOTHING)], tmp_path, r"gone\.png does not exist")
    refused([ImportedImage(one.path, 4, 5, "p", NOTHING, file_name="../up.png")], tmp_path, "relative path")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"patient": " "}, "patient"),
        ({"density": 5}, "density"),
        ({"spacing_mm": 0.0}, "spacing"),
        ({"rows": 0}, "rows"),
    ],
)
def test_an_image_that_cannot_be(bad, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        ImportedImage(**{"path": tmp_path / "a.png", "rows": 4, "columns": 5, "patient": "p", "marks": NOTHING} | bad)


def test_a_polygon_has_its_box_around_it():
    assert ImportedBox.around(((3, 9), (7, 2), (5, 4)), "Mass").box == Box(3, 2, 7, 9)
    with pytest.raises(ValueError, match="corners"):
        ImportedBox.around(((3, 9), (7, 2)), "Mass")


def test_coco_tools_read_it(images, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    write_dataset(images, tmp_path / "out", name="ACME")
    read = coco.COCO(str(tmp_path / "out/annotations.json"))
    assert [read.cats[number]["name"] for number in sorted(read.cats)] == ["Calcification", "Mass"]
    masses = read.loadAnns(read.getAnnIds(imgIds=[1], catIds=[2], iscrowd=False))
    assert [entry["bbox"] for entry in masses] == [[5, 10, 20, 8]]
    assert read.annToMask(masses[0]).sum() > 0
