"""The layouts in which programs export: whole roots, several files, paths of another machine. Boxes by hand.

Pictures have 100 rows and 200 columns.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mammoscope.datasets import DatasetError, import_coco, load_dataset
from mammoscope.datasets.formats import ReadOptions, import_annotations
from mammoscope.datasets.image_marks import Silence

PATTERN = r"^(?P<patient>P\d+)_"


def picture(path: Path, orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.zeros((100, 200), np.uint8))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def text(path: Path, content: str = "0 0.5 0.5 0.2 0.1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def brought(tmp_path, kind, source, images, **options):
    done = import_annotations(
        kind, source, images, tmp_path / "out", patient_pattern=PATTERN, overwrite=True, options=ReadOptions(**options)
    )
    return done, {image.path.stem: image for image in load_dataset(tmp_path / "out")}


def coco(path: Path, names, **box) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": n, "file_name": name, "width": 200, "height": 100} for n, name in enumerate(names)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 0, "bbox": [20, 30, 40, 50], "area": 2000, "iscrowd": 0, **box}
        for n in range(len(names))
    ]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "Mass"}]}))
    return path


@pytest.mark.parametrize("root", [".", "data.yaml"])
@pytest.mark.parametrize("layout", ["roboflow", "ultralytics"])
def test_yolo_roots_keep_their_splits(tmp_path, layout, root):
    source = tmp_path / "root"
    text(source / "data.yaml", "train: ../train/images\nnc: 1\nnames: ['mass']\n")
    val = "valid" if layout == "roboflow" else "val"
    for name, split in (("P1_LEFT_CC", "train"), ("P2_LEFT_CC", val), ("P3_LEFT_CC", "test")):
        parts = (split, "images"), (split, "labels")
        if layout == "ultralytics":
            parts = ("images", split), ("labels", split)
        picture(source.joinpath(*parts[0]) / f"{name}.png")
        text(source.joinpath(*parts[1]) / f"{name}.txt")
    text(source / "README.dataset.txt", "mass > 2026-01-01\nhttps://universe.example/mass\n")
    text(source / "README.roboflow.txt", "\nmass - v1\n==============\n1 2 3 of 4 steps\n")

    done, images = brought(tmp_path, "yolo", source / root, source)

    assert {name: image.split for name, image in images.items()} == {
        "P1_LEFT_CC": "train", "P2_LEFT_CC": "val", "P3_LEFT_CC": "test",
    }  # fmt: skip
    assert all(image.boxes[0].as_tuple() == pytest.approx((80, 45, 120, 55)) for image in images.values())
    if layout == "roboflow":
        assert "2 text files are no labels and were left aside: README.dataset.txt, README.roboflow.txt." in done.notes
    assert "It came in the parts test, train, val: they are its splits." in done.notes


def test_the_folder_of_labels_alone_finds_the_names_of_classes_at_the_root(tmp_path):
    picture(tmp_path / "root/train/images/P1_LEFT_CC.png")
    text(tmp_path / "root/train/labels/P1_LEFT_CC.txt")
    text(tmp_path / "root/data.yaml", "names: ['mass']\n")
    _, images = brought(tmp_path, "yolo", tmp_path / "root/train/labels", tmp_path / "root/train/images")
    assert images["P1_LEFT_CC"].labels == ("mass",)


def test_the_root_of_cvat_and_a_picture_without_a_file(tmp_path):
    """An empty file says that there is no lesion; no file says nothing, unless it is asked for."""
    source = tmp_path / "root"
    for number in (1, 2, 3):
        picture(source / f"obj_train_data/P{number}_LEFT_CC.png")
    text(source / "obj_train_data/P1_LEFT_CC.txt")
    text(source / "obj_train_data/P2_LEFT_CC.txt", "")
    text(source / "train.txt", "".join(f"data/obj_train_data/P{n}_LEFT_CC.png\n" for n in (1, 2, 3)))
    text(source / "obj.names", "mass\n")

    done, images = brought(tmp_path, "yolo", source, source)

    assert {name: str(image.review) for name, image in images.items()} == {
        "P1_LEFT_CC": "annotated", "P2_LEFT_CC": "annotated", "P3_LEFT_CC": "unannotated",
    }  # fmt: skip
    counts = done.written.marks
    assert (counts.with_boxes, counts.negative, counts.unannotated) == (1, 1, 1)
    assert any("1 pictures have no text file" in note for note in done.notes)
    done, images = brought(tmp_path, "yolo", source, source, silence=Silence.NEGATIVE)
    assert images["P3_LEFT_CC"].review == "annotated"
    assert done.written.marks.negative == 2


def test_parts_that_share_a_patient_are_no_split(tmp_path):
    """The patient is in the file's name, whatever folder it lies in."""
    source = tmp_path / "root"
    text(source / "data.yaml", "names: ['mass']\n")
    for name, split in (("P1_LEFT_CC", "train"), ("P1_LEFT_MLO", "valid"), ("P2_LEFT_CC", "train")):
        picture(source / split / "images" / f"{name}.png")
        text(source / split / "labels" / f"{name}.txt")
    done = import_annotations("yolo", source, source, tmp_path / "out", patient_pattern=r"^(?P<patient>[^_]+)_")
    data = load_dataset(tmp_path / "out")
    assert data.patients == ("P1", "P2")
    assert {image.split for image in data} == {None}
    assert "1 of 2 patients are in more than one: no split was kept" in done.notes[-1]


def test_coco_files_of_roboflow_are_one_set(tmp_path):
    root = tmp_path / "root"
    for split, names in (("train", ["P1_a.png", "P2_a.png"]), ("valid", ["P3_a.png"]), ("test", ["P4_a.png"])):
        coco(root / split / "_annotations.coco.json", names)
        for name in names:
            picture(root / split / name)
    done = import_coco(root, root, tmp_path / "out", patient_pattern=PATTERN)
    data = load_dataset(tmp_path / "out")
    assert [(image.path.name, image.split, len(image.boxes)) for image in data] == [
        ("P4_a.png", "test", 1), ("P1_a.png", "train", 1), ("P2_a.png", "train", 1), ("P3_a.png", "val", 1),
    ]  # fmt: skip
    assert done.boxes == 4
    assert data.category_ids == {"Mass": 1}
    _, again = brought(tmp_path, "coco", root, root)
    assert {name: image.split for name, image in again.items()}["P3_a"] == "val"


@pytest.mark.parametrize(
    "name",
    [
        "images\\1/90fbb0c7-P1_LEFT_CC.png", "data/local-files/?d=scans/90fbb0c7-P1_LEFT_CC.png",
        "/data/upload/1/P1_LEFT_CC.png",
        "C:\\scans\\P1_LEFT_CC.png", "../up/P1_LEFT_CC.png", "https://host.example/a%20b/P1_LEFT_CC.png?x=1",
    ],
)  # fmt: skip
def test_coco_finds_images_by_name(tmp_path, name):
    picture(tmp_path / "pictures/P1_LEFT_CC.png")
    path = coco(tmp_path / "a.json", [name.replace("\\", "\\")])
    import_coco(path, tmp_path / "pictures", tmp_path / "out", patient_pattern=PATTERN)
    (image,) = load_dataset(tmp_path / "out")
    assert (image.path.name, image.boxes[0].as_tuple()) == ("P1_LEFT_CC.png", (20, 30, 60, 80))


@pytest.mark.parametrize(("crowd", "is_crowd"), [("0", False), (False, False), ("1", True), (1.0, True), (None, False)])
def test_iscrowd_in_other_words(tmp_path, crowd, is_crowd):
    picture(tmp_path / "pictures/P1_a.png")
    done = import_coco(
        coco(tmp_path / "a.json", ["P1_a.png"], iscrowd=crowd), tmp_path / "pictures", tmp_path / "out",
        patient_pattern=PATTERN,
    )  # fmt: skip
    assert (done.boxes, done.crowds) == (int(not is_crowd), int(is_crowd))


def test_iscrowd_that_is_neither_is_refused(tmp_path):
    picture(tmp_path / "pictures/P1_a.png")
    with pytest.raises(DatasetError, match="annotation 0 has the iscrowd 'maybe', which is neither 0 nor 1"):
        import_coco(coco(tmp_path / "a.json", ["P1_a.png"], iscrowd="maybe"), tmp_path / "pictures", tmp_path / "out")


def test_crowd_regions_are_told_and_may_be_lesions(tmp_path):
    """CVAT writes every mask and ellipse as one."""
    picture(tmp_path / "pictures/P1_a.png")
    path = coco(tmp_path / "a.json", ["P1_a.png"], iscrowd=1)
    done = import_coco(path, tmp_path / "pictures", tmp_path / "out", patient_pattern=PATTERN)
    assert (done.boxes, done.crowds, done.marks.unannotated, done.marks.negative) == (0, 1, 1, 0)
    assert "Every mark has iscrowd 1" in done.notes[0]
    assert load_dataset(tmp_path / "out")[0].review == "unannotated"
    done = import_coco(
        path, tmp_path / "pictures", tmp_path / "out", patient_pattern=PATTERN, overwrite=True, crowds_are_lesions=True
    )
    assert (done.boxes, done.crowds, done.marks.with_boxes) == (1, 0, 1)
    assert load_dataset(tmp_path / "out")[0].boxes[0].as_tuple() == (20, 30, 60, 80)


def test_a_box_without_area_is_passed_over(tmp_path):
    picture(tmp_path / "pictures/P1_a.png")
    path = coco(tmp_path / "a.json", ["P1_a.png"], bbox=[20, 30, 0, 50])
    done = import_coco(path, tmp_path / "pictures", tmp_path / "out", patient_pattern=PATTERN)
    assert dict(done.marks.passed_over) == {"a box without area": 1}
    assert load_dataset(tmp_path / "out")[0].review == "unannotated"
    # an outline alone will do
    outline = [[20, 30, 60, 30, 60, 80]]
    path = coco(tmp_path / "a.json", ["P1_a.png"], bbox=[], segmentation=outline)
    import_coco(path, tmp_path / "pictures", tmp_path / "out", patient_pattern=PATTERN, overwrite=True)
    assert load_dataset(tmp_path / "out")[0].boxes[0].as_tuple() == (20, 30, 60, 80)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_picture_that_is_stored_turned_is_refused_by_name(tmp_path, orientation):
    pictures = picture(tmp_path / "pictures/P1_a.jpg", orientation).parent
    said = rf"P1_a\.jpg has the EXIF orientation {orientation}: it is shown (mirrored|turned|transposed)"
    with pytest.raises(DatasetError, match=said):
        import_coco(coco(tmp_path / "a.json", ["P1_a.jpg"]), pictures, tmp_path / "out", patient_pattern=PATTERN)
    text(tmp_path / "y/P1_a.txt")
    text(tmp_path / "c.xml", '<annotations><image id="0" name="P1_a.jpg" width="200" height="100"/></annotations>')
    for kind, source in (("yolo", tmp_path / "y"), ("cvat", tmp_path / "c.xml")):
        with pytest.raises(DatasetError, match=said):
            brought(tmp_path, kind, source, pictures, classes=("mass",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("orientation", [None, 1, 0, 9])
def test_a_picture_that_is_stored_upright_is_taken(tmp_path, orientation):
    pictures = picture(tmp_path / "pictures/P1_a.jpg", orientation).parent
    import_coco(coco(tmp_path / "a.json", ["P1_a.jpg"]), pictures, tmp_path / "out", patient_pattern=PATTERN)


def region(kind, value, ident, **more):
    return {"id": ident, "type": kind, "original_width": 200, "original_height": 100, "value": value, **more}


def test_label_studio_labels_beside_a_rectangle_and_what_is_said_of_a_region(tmp_path):
    picture(tmp_path / "pictures/P1_a.png")
    place = {"x": 10, "y": 10, "width": 20, "height": 30, "rotation": 0}
    results = [
        region("rectangle", place, "a"),
        region("labels", {**place, "labels": ["Mass"]}, "a"),
        region("choices", {**place, "choices": ["malignant"]}, "a", from_name="pathology"),
        region("textarea", {**place, "text": ["spiculated"]}, "a", from_name="words"),
        region("keypointlabels", {"x": 1, "y": 2, "keypointlabels": ["Mass"]}, "b"),
        region("videorectangle", {"x": 1, "y": 2}, "c"),
        {"type": "choices", "from_name": "density", "value": {"choices": ["C"]}, "id": "d"},
    ]
    path = tmp_path / "ls.json"
    path.write_text(
        json.dumps([{"id": 1, "data": {"image": "P1_a.png"}, "annotations": [{"id": 1, "result": results}]}])
    )

    done, images = brought(tmp_path, "label-studio", path, tmp_path / "pictures")

    image = images["P1_a"]
    assert (image.labels, image.boxes[0].as_tuple()) == (("Mass",), (20, 10, 60, 40))
    assert image.box_facts[0]["attributes"] == {"pathology": "malignant", "words": "spiculated"}
    assert image.facts["attributes"] == {"density": "C"}
    assert image.facts["marks"] == {
        "passed_over": {"a keypoint, which has no area": 1},
        "unknown": {"a region of the type 'videorectangle'": 1},
    }
    assert done.written.marks.taken == 1


def test_label_studio_tasks_that_nobody_did_are_unannotated(tmp_path):
    for number in range(4):
        picture(tmp_path / f"pictures/P{number}_a.png")
    done_task = {
        "annotations": [
            {
                "id": 1,
                "result": [
                    region(
                        "rectanglelabels", {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["Mass"]}, "a"
                    )
                ],
            }
        ]
    }
    empty, skipped, untouched = (
        {"annotations": [{"id": 2, "result": []}]}, {"annotations": [{"id": 3, "result": [], "was_cancelled": True}]},
        {"annotations": [], "predictions": [{"result": []}]},
    )  # fmt: skip
    tasks = [{"id": n, "data": {"image": f"P{n}_a.png"}, **task}
             for n, task in enumerate((done_task, empty, skipped, untouched))]  # fmt: skip
    path = tmp_path / "ls.json"
    path.write_text(json.dumps(tasks))
    done, images = brought(tmp_path, "label-studio", path, tmp_path / "pictures")
    counts = done.written.marks
    assert (counts.with_boxes, counts.negative, counts.unannotated) == (1, 1, 2)
    assert [str(images[f"P{n}_a"].review) for n in range(4)] == ["annotated", "annotated", "unannotated", "unannotated"]


def test_an_export_keeps_who_was_not_annotated(tmp_path):
    """A format in which a file without boxes means that there is no lesion gets no file of such an image."""
    from mammoscope.datasets.formats import WRITERS, export_dataset

    source = tmp_path / "y"
    for number in (1, 2, 3):
        picture(tmp_path / f"pictures/P{number}_a.png")
    text(source / "P1_a.txt")
    text(source / "P2_a.txt", "")
    brought(tmp_path, "yolo", source, tmp_path / "pictures", classes=("mass",))
    places = {"coco": "annotations.json", "csv": "boxes.csv", "voc": "Annotations", "yolo": ".", "detectron2": "."}
    for kind in WRITERS:
        summary = export_dataset(tmp_path / "out", tmp_path / kind, kind)
        assert summary.unannotated == 1
        again = import_annotations(
            kind, tmp_path / kind / places[kind], tmp_path / kind / "images", tmp_path / f"{kind}-again",
            patient_pattern=PATTERN,
        )  # fmt: skip
        counts = again.written.marks
        assert (counts.with_boxes, counts.negative) == (1, 1), kind
        assert counts.unannotated == (0 if kind == "voc" else 1), kind  # VOC names only images with a file


def test_a_mask_of_labelme_covers_both_of_its_corners(tmp_path):
    import base64

    picture(tmp_path / "pictures/P1_a.png")
    _, coded = cv2.imencode(".png", np.ones((5, 8), np.uint8) * 255)
    shape = {"label": "Mass", "shape_type": "mask", "points": [[10, 20], [17, 24]],
             "mask": base64.b64encode(coded.tobytes()).decode()}  # fmt: skip
    star = {"label": "Mass", "shape_type": "star", "points": [[1, 1], [2, 2]]}
    oblong = {"label": "Mass", "shape_type": "rotation", "points": [[50, 10], [60, 20], [50, 30], [40, 20]],
              "attributes": {"birads": "4"}, "difficult": True}  # fmt: skip
    path = tmp_path / "P1_a.json"
    path.write_text(json.dumps({"imagePath": "..\\img\\P1_a.png", "shapes": [shape, star, oblong]}))
    _, images = brought(tmp_path, "labelme", path, tmp_path / "pictures")
    assert [box.as_tuple() for box in images["P1_a"].boxes] == [(10, 20, 18, 25), (40, 10, 60, 30)]
    assert images["P1_a"].box_facts[1]["attributes"] == {"birads": "4", "difficult": "yes"}
    assert images["P1_a"].facts["marks"] == {"unknown": {"the shape_type 'star' with 2 points": 1}}


def test_md_ai_finds_images_by_their_uid(tmp_path, lay_mammogram):
    """Boxes, outlines and labels of the whole image, as its annotator exports them."""
    for number in (1, 2, 3):
        lay_mammogram(tmp_path / f"pictures/P{number}_a.dcm", f"1.2.{number}")
    head = "id,StudyInstanceUID,SeriesInstanceUID,SOPInstanceUID,labelName,annotationMode,data,scope\n"
    box = '"{""x"": 20, ""y"": 30.5, ""width"": 40, ""height"": 50}"'
    outline = '"{""vertices"": [[1, 2], [9, 2], [5, 8]]}"'
    path = text(
        tmp_path / "mdai.csv",
        head + f"A1,1.1,1.1.1,1.2.1,Mass,bbox,{box},INSTANCE\nA2,1.1,1.1.1,1.2.1,Calc,freeform,{outline},INSTANCE\n"
        'A3,1.1,1.1.1,1.2.1,Mass,location,"{""x"": 1, ""y"": 2}",INSTANCE\nA4,1.1,1.1.1,1.2.2,Normal,,,INSTANCE\n'
        "A5,1.1,1.1.1,1.2.3,Bad quality,,,INSTANCE\nA6,1.1,,,BI-RADS 4,,,STUDY\n",
    )

    done, images = brought(tmp_path, "csv", path, tmp_path / "pictures")

    assert [box.as_tuple() for box in images["P1_a"].boxes] == [(20, 30.5, 60, 80.5), (1, 2, 9, 8)]
    assert images["P1_a"].labels == ("Mass", "Calc")
    assert images["P1_a"].facts["marks"] == {"passed_over": {"a location, which has no area": 1}}
    assert [str(images[name].review) for name in ("P2_a", "P3_a")] == ["annotated", "unannotated"]
    assert done.written.marks.negative == 1
