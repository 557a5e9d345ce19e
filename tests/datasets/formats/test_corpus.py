"""Exports that the programs themselves wrote (see ``corpus/README.md``), with boxes counted by hand."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoscope.datasets import import_coco, load_dataset
from mammoscope.datasets.collections import import_collection
from mammoscope.datasets.formats import ReadOptions, import_annotations
from mammoscope.datasets.image_marks import Silence

CORPUS = Path(__file__).parent / "corpus"
PATTERN = r"^(?P<patient>P\d)_(?P<laterality>LEFT|RIGHT)_(?P<view>CC|MLO)"
MASS, CALCIFICATION = ("Mass", 20, 10, 60, 40), ("Calcification", 100, 20, 140, 60)
LINE = ("Mass", 10, 80, 30, 90)
VIA = sorted([CALCIFICATION, MASS, ("Mass", 45, 65, 55, 75), ("Mass", 130, 60, 170, 80), LINE])
VIA3 = sorted([*VIA, ("Mass", 160, 10, 190, 40), ("Mass", 70, 70, 90, 90)])  # the two shapes by points of their edges
ONE, TWO, THREE = "P1_LEFT_CC", "P2_RIGHT_MLO", "P3_LEFT_CC"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name in (ONE, TWO, THREE):
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((100, 200), np.uint8))
        shutil.copy(folder / f"{name}.png", folder / f"{name}.jpg")  # by its content a PNG; only the size is read
    return folder


def read(out):
    """Boxes to 0.01 pixel, and the state, by image."""
    return {
        image.path.stem: (
            sorted((label, *(round(edge, 2) for edge in box.as_tuple())) for label, box in
                   zip(image.labels, image.boxes, strict=True)),
            str(image.review),
        )
        for image in load_dataset(out)
    }  # fmt: skip


def as_png(pictures, tmp_path, *, jpg=False):
    """The pictures under one ending each, as an export names them."""
    folder = tmp_path / "images"
    folder.mkdir(exist_ok=True)
    for path in pictures.glob("*.jpg" if jpg else "*.png"):
        shutil.copy(path, folder / path.name)
    return folder


CASES = [
    ("cvat", "datumaro/cvat", {}, {ONE: ([CALCIFICATION, MASS], "annotated"), TWO: ([MASS], "annotated"),
                                   THREE: ([], "annotated")}),
    ("yolo", "datumaro/yolo", {}, {ONE: ([MASS], "annotated"), TWO: ([], "annotated"), THREE: ([], "annotated")}),
    ("yolo", "datumaro/yolo_ultralytics", {}, {ONE: ([MASS], "annotated"), TWO: ([], "annotated"),
                                               THREE: ([], "annotated")}),
    ("voc", "datumaro/voc_detection/Annotations", {"counts_from": 0}, {ONE: ([MASS], "annotated")}),
    ("coco", "datumaro/coco_instances", {"crowds_are_lesions": True}, {
        ONE: ([CALCIFICATION, MASS], "annotated"), TWO: ([MASS], "annotated"), THREE: ([], "annotated")}),
    ("label-studio", "label_studio/export.json", {}, {
        ONE: ([CALCIFICATION, ("Mass", 10, 50, 40, 80), MASS], "annotated"), TWO: ([], "annotated"),
        THREE: ([], "unannotated")}),
    ("label-studio", "label_studio/json_min.json", {}, {
        ONE: ([CALCIFICATION, ("Mass", 10, 50, 40, 80), MASS], "annotated"), TWO: ([], "annotated"),
        THREE: ([], "unannotated")}),
    # its COCO file does not tell a task that nobody did from one without a mark
    ("coco", "label_studio/coco.json", {}, {ONE: ([CALCIFICATION, MASS], "annotated"), TWO: ([], "unannotated"),
                                            THREE: ([], "unannotated")}),
    ("yolo", "label_studio/yolo", {}, {ONE: ([CALCIFICATION, MASS], "annotated"), TWO: ([], "unannotated"),
                                       THREE: ([], "unannotated")}),
    ("voc", "label_studio/voc", {"counts_from": 0}, {ONE: ([MASS], "annotated")}),
    ("labelme", "labelme", {}, {
        ONE: ([CALCIFICATION, MASS, ("Mass", 45, 65, 55, 75), ("Mass", 150, 50, 190, 80)], "annotated"),
        TWO: ([], "annotated")}),
    # its files hold no mark also where nobody looked: "checked" says whether somebody did
    ("labelme", "x_anylabeling/labels", {}, {
        ONE: ([CALCIFICATION, MASS, ("Mass", 40, 50, 60, 70), ("Mass", 145, 65, 155, 75)], "annotated"),
        TWO: ([], "annotated"), THREE: ([], "unannotated")}),
    ("voc", "x_anylabeling/voc", {"counts_from": 0}, {ONE: ([CALCIFICATION, MASS], "annotated"), TWO: ([], "annotated"),
                                                      THREE: ([], "annotated")}),
    ("yolo", "x_anylabeling/yolo", {}, {ONE: ([MASS], "annotated"), TWO: ([], "annotated"), THREE: ([], "annotated")}),
    ("coco", "x_anylabeling/coco_detection.json", {}, {
        ONE: ([MASS], "annotated"), TWO: ([], "annotated"), THREE: ([], "annotated")}),
    # the program's box of an outline ends behind the pixels of its corners
    ("coco", "x_anylabeling/coco_instance_segmentation.json", {}, {
        ONE: ([("Calcification", 100, 20, 141, 61)], "annotated"), TWO: ([], "annotated"), THREE: ([], "annotated")}),
    *(("via", f"via/via2_{name}", {}, {ONE: (VIA, "annotated"), TWO: ([], "annotated"), THREE: ([], "unannotated")})
      for name in ("project.json", "export.json", "export.csv")),
    ("via", "via/via3_project.json", {}, {
        ONE: (VIA3, "annotated"), TWO: ([], "annotated"), THREE: ([], "unannotated")}),
    # an image of which nothing is said is not in it
    ("via", "via/via3_export.csv", {}, {ONE: (VIA3, "annotated"), TWO: ([], "annotated")}),
    # it leaves lines out, gives a point an empty box, and lists what was loaded
    ("coco", "via/via2_coco.json", {}, {
        ONE: ([box for box in VIA if box != LINE], "annotated"), TWO: ([], "unannotated"), THREE: ([], "unannotated")}),
    ("coco", "supervision/coco.json", {}, {ONE: ([CALCIFICATION, MASS], "annotated"), TWO: ([], "annotated")}),
    ("yolo", "supervision/yolo", {}, {ONE: ([CALCIFICATION, MASS], "annotated"), TWO: ([], "annotated"),
                                      THREE: ([], "unannotated")}),
    ("voc", "supervision/voc", {}, {ONE: ([CALCIFICATION, MASS], "annotated"), TWO: ([], "annotated")}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "source", "options", "wanted"), CASES, ids=lambda value: str(value)[:40])
def test_boxes_are_those_that_were_drawn(kind, source, options, wanted, pictures, tmp_path):
    images = as_png(pictures, tmp_path, jpg=source.startswith("datumaro"))
    import_annotations(
        kind, CORPUS / source, images, tmp_path / "out", patient_pattern=PATTERN, options=ReadOptions(**options)
    )
    assert read(tmp_path / "out") == wanted


def test_the_command_for_coco_reads_the_same(pictures, tmp_path):
    images = as_png(pictures, tmp_path, jpg=True)
    done = import_coco(CORPUS / "datumaro/coco_instances", images, tmp_path / "out", patient_pattern=PATTERN)
    assert (done.boxes, done.crowds, done.marks.unannotated) == (2, 1, 1)
    assert "1 of 3 marks has iscrowd 1" in done.notes[0]
    assert read(tmp_path / "out")[ONE][0] == [CALCIFICATION, MASS]
    # of the parts of two files only patients decide whether they are a split
    assert {image.split for image in load_dataset(tmp_path / "out")} == {"train", "val"}


def test_what_x_anylabeling_holds_unchecked_and_cannot_say_in_voc_is_told(pictures, tmp_path):
    images = as_png(pictures, tmp_path)
    done = import_annotations(
        "labelme", CORPUS / "x_anylabeling/labels", images, tmp_path / "out", patient_pattern=PATTERN
    )
    assert done.notes[0].startswith("1 files of X-AnyLabeling hold no mark and are not checked there")
    assert dict(done.written.marks.passed_over) == {"a point, which has no area": 1}
    first = next(image for image in load_dataset(tmp_path / "out") if image.path.stem == ONE)
    assert [facts.get("attributes") for facts in first.box_facts] == [
        {"margin": "spiculated"}, {"difficult": "yes"}, None, None,
    ]  # fmt: skip
    done = import_annotations(
        "voc", CORPUS / "x_anylabeling/voc", images, tmp_path / "voc", patient_pattern=PATTERN,
        options=ReadOptions(counts_from=0),
    )  # fmt: skip
    assert sum(done.written.marks.unknown.values()) == 3  # objects without a box: turned, round, a point


def test_what_via_says_of_regions_and_files_is_kept_and_every_mark_accounted_for(pictures, tmp_path):
    images = as_png(pictures, tmp_path)
    for name, left in (
        ("via2_export.csv", {"a point, which has no area": 1}),
        ("via3_project.json", {"a point, which has no area": 1, "a line, which has no area": 1}),
    ):
        out = tmp_path / name
        done = import_annotations("via", CORPUS / "via" / name, images, out, patient_pattern=PATTERN)
        assert dict(done.written.marks.passed_over) == left
        assert done.notes[0].startswith("1 images have no region, and no attribute of the file says that they are")
        read_in = {image.path.stem: image for image in load_dataset(out)}
        assert read_in[TWO].facts["attributes"] == {"assessment": "normal"}
        said = [facts["attributes"] for facts in read_in[ONE].box_facts]
        assert [one["lesion"] for one in said[:3]] == ["Mass", "Calcification", "Mass"]
        assert [one.get("signs") for one in said[:3]] == [None, None, "spiculated"]
    negative = ReadOptions(silence=Silence.NEGATIVE)
    done = import_annotations(
        "via", CORPUS / "via/via2_export.json", images, tmp_path / "all", patient_pattern=PATTERN, options=negative
    )
    assert (done.written.marks.negative, done.notes) == (2, ())


def test_what_a_person_rejected_in_x_anylabeling_is_disputed(pictures, tmp_path):
    content = json.loads((CORPUS / f"x_anylabeling/labels/{ONE}.json").read_text())
    (tmp_path / "labels").mkdir()
    (tmp_path / f"labels/{ONE}.json").write_text(json.dumps({**content, "checked": "failed"}))
    import_annotations(
        "labelme", tmp_path / "labels", as_png(pictures, tmp_path), tmp_path / "out", patient_pattern=PATTERN
    )
    assert read(tmp_path / "out")[ONE][1] == "disputed"


def test_what_is_said_of_a_region_is_of_its_box(pictures, tmp_path):
    import_annotations(
        "label-studio", CORPUS / "label_studio/export.json", as_png(pictures, tmp_path), tmp_path / "out",
        patient_pattern=PATTERN,
    )  # fmt: skip
    first = next(image for image in load_dataset(tmp_path / "out") if image.path.stem == ONE)
    said = {
        image_label: facts.get("attributes") for image_label, facts in zip(first.boxes, first.box_facts, strict=True)
    }
    assert [value for value in said.values() if value] == [{"pathology": "malignant"}]


def test_a_report_as_ohif_writes_it(tmp_path, lay_mammogram):
    """Coordinates have no concept name; the length is a line, and an image that is evidence alone is no negative."""
    folder = tmp_path / "archive"
    folder.mkdir()
    shutil.copy(CORPUS / "dcmjs/ohif_sr", folder / "ohif_sr.dcm")
    for number in (1, 2, 3, 4):
        lay_mammogram(
            folder / f"{number}.dcm", f"1.2.{number}", 400, 300, StudyInstanceUID="1.2",
            SeriesInstanceUID=f"1.2.0.{number}", PatientID="P1",
        )  # fmt: skip

    done = import_collection("dicom", folder, tmp_path / "out", workers=1)

    assert read(tmp_path / "out") == {
        "1.2.1": ([("Mass", 50, 60, 110, 140)], "annotated"), "1.2.2": ([("Mass", 40, 80, 120, 120)], "annotated"),
        "1.2.3": ([("Mass", 10, 20, 70, 90)], "annotated"), "1.2.4": ([], "unannotated"),
    }  # fmt: skip
    assert dict(done.written.marks.passed_over) == {"a polyline without an area": 1}


def test_a_segmentation_and_its_report_as_slicer_writes_them(tmp_path, lay_mammogram):
    """By dcmqi, the library behind Slicer's export: the report measures a segment and marks no place of its own."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for kind in ("seg", "sr"):
        shutil.copy(CORPUS / "dcmqi" / kind, folder / f"{kind}.dcm")
    for number in (1, 2):
        lay_mammogram(
            folder / f"{number}.dcm", f"1.2.5.{number}", 100, 200, StudyInstanceUID="1.2.5",
            SeriesInstanceUID=f"1.2.5.0.{number}", PatientID="P1",
        )  # fmt: skip

    import_collection("dicom", folder, tmp_path / "out", workers=1)

    assert read(tmp_path / "out") == {
        "1.2.5.1": ([], "unannotated"), "1.2.5.2": ([("Calcification", 120, 60, 160, 80), MASS], "annotated"),
    }  # fmt: skip
