"""What an import left of marks, boxes drawn twice, and images that another set holds too."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoscope.datasets import ImportedBox, ImportedImage, ReviewState, set_review, write_dataset
from mammoscope.datasets.audit import audit_dataset
from mammoscope.datasets.image_marks import ImageMarks, LeftMark, Silence
from mammoscope.findings import Box
from mammoscope.imaging import MammogramReader, read_mammogram

A, B, C = "w1_R_CC.dcm", "w1_R_MLO.dcm", "w2_R_CC.dcm"


def test_what_was_not_taken_is_told_by_reason(folder):
    def change(content):
        folder.entry(content, A).update(review="unannotated", marks={"passed_over": {"a point without an area": 2}})
        folder.entry(content, B).update(marks={"unknown": {"a graphic of the type 'STAR'": 1}})
        folder.entry(content, C).update(review="unannotated", marks={"not_outlined": {"a lesion without a place": 1}})

    folder.change(change)

    assert folder.found() == {
        "mark passed over": {A}, "unknown mark": {B}, "lesion without a place": {C}, "unannotated": {A, C},
    }  # fmt: skip
    said = {finding.case.said for finding in folder.audit().findings}
    assert "2 marks were passed over on import: a point without an area." in said
    set_review(folder.path, [A], ReviewState.ANNOTATED, "dr a")
    assert folder.found()["unannotated"] == {C}


def test_a_box_that_is_there_twice(folder):
    name = next(folder.entry(folder.coco, n)["file_name"] for n in _names(folder) if folder.boxes(folder.coco, n))

    def change(content):
        first = folder.boxes(content, name)[0]
        content["annotations"].append({**first, "id": 901})

    folder.change(change)
    (finding,) = folder.audit().findings
    assert (finding.check.name, finding.case.file_names) == ("box twice", (name,))
    assert 901 in finding.case.boxes


def _names(folder):
    return [entry["file_name"] for entry in folder.coco["images"]]


@pytest.mark.parametrize("crowd", [1, "1", True])
def test_a_set_of_crowd_regions_alone(folder, crowd):
    def change(content):
        for entry in content["annotations"]:
            entry["iscrowd"] = crowd

    folder.change(change)
    assert set(folder.found()) == {"only crowd regions"}
    folder.change(lambda content: content["annotations"][0].update(iscrowd="0"))
    assert folder.found() == {}


def test_images_that_another_set_has_too(folder, tmp_path, reader: MammogramReader):
    """Under other names, as JPEG, stretched to a square and mirrored, as re-releases have them."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, name in enumerate((A, C)):
        pixels = (read_mammogram(folder.file(name)).pixels // 257).astype("uint8")
        square = cv2.resize(pixels, (320, 320), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(pictures / f"{number}.jpg"), square[:, ::-1] if number else square)
    images = [
        ImportedImage(pictures / f"{n}.jpg", 320, 320, f"p{n}", ImageMarks((), Silence.NEGATIVE), split="train")
        for n in range(2)
    ]
    write_dataset(images, tmp_path / "release", name="release", licence="CC BY 4.0")

    found = audit_dataset(tmp_path / "release", reader=reader, against=[folder.path])

    cases = {f.case.file_names[0]: f.case.said for f in found.findings if f.check.name == "in another set"}
    assert set(cases) == {"0.jpg", "1.jpg"}
    assert f"It is the image {A} of the split train of set (correlation" in cases["0.jpg"]
    assert f"It is the image {C} of the split train of set, mirrored left to right" in cases["1.jpg"]
    assert not [f for f in audit_dataset(tmp_path / "release", reader=reader, resume=True).findings
                if f.check.name == "in another set"]  # fmt: skip


def test_the_folder_keeps_the_account(tmp_path: Path):
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.zeros((40, 50), np.uint8))
    marks = ImageMarks(
        (ImportedBox(Box(1, 2, 9, 9), "Mass"),), Silence.NEGATIVE,
        (LeftMark("a point", "x:1"), LeftMark("a point", "x:2")),
        (LeftMark("a star", "x:3"),),
    )  # fmt: skip
    write_dataset([ImportedImage(picture, 40, 50, "p", marks)], tmp_path / "set", name="set")
    content = json.loads((tmp_path / "set/annotations.json").read_text())
    assert content["images"][0]["marks"] == {"passed_over": {"a point": 2}, "unknown": {"a star": 1}}
    assert content["info"]["marks"] == {
        "images": {"with_boxes": 1, "negative": 0, "unannotated": 0}, "taken": 1, "crowds": 0,
        "passed_over": {"a point": 2}, "unknown": {"a star": 1}, "not_outlined": {},
    }  # fmt: skip
    shutil.rmtree(tmp_path / "set")
