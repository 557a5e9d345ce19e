"""Reports' folders: written, read back, and refused where they are none."""

import json

import pytest

from mammoscope.datasets import AnnotatedImage
from mammoscope.evaluation import (
    Case,
    EvaluationError,
    ImageResult,
    attributes_of,
    cases_to_coco,
    evaluate,
    predictions_to_coco,
    read_report,
)
from mammoscope.findings import Box, Finding
from mammoscope.imaging import Laterality, View

A, B, CROWD = Box(0, 0, 10, 10), Box(50, 50, 60, 60), Box(20, 20, 30, 40)
CASES = (
    Case(
        ImageResult(3, "p", (A, B), (Finding(B, 0.75), Finding(A, 0.5)), (CROWD,)),
        "scans/one.png",
        300,
        200,
        {"view": "CC", "density": "2"},
        ({"label": "Mass", "margin": "SPICULATED"}, {"label": "Cyst"}),
        "pictures/one.jpg",
    ),
    Case(ImageResult(7, "q", (), (), unreadable="two.png cannot be decoded."), "two.png", 30, 20, {"view": "MLO"}),
)


@pytest.fixture
def folder(tmp_path):
    results = [case.result for case in CASES]
    (tmp_path / "metrics.json").write_text(json.dumps(evaluate(results, 0.6, "given", resamples=5).to_json()))
    (tmp_path / "cases.json").write_text(json.dumps(cases_to_coco(CASES, {"Mass": 0, "Cyst": 1})))
    (tmp_path / "predictions.json").write_text(json.dumps(predictions_to_coco(CASES, {"Mass": 0, "Cyst": 1})))
    return tmp_path


def test_a_report_is_read_back_as_it_was_written(folder):
    report = read_report(folder)
    assert report.cases == CASES
    assert report.metrics["threshold"] == 0.6
    assert report.results == [case.result for case in CASES]


def test_other_tools_read_the_cases(folder):
    coco = pytest.importorskip("pycocotools.coco").COCO(str(folder / "cases.json"))
    assert sorted((a["image_id"], a["category_id"], a["iscrowd"]) for a in coco.loadAnns(coco.getAnnIds())) == [
        (3, 0, 0), (3, 0, 1), (3, 1, 0),
    ]  # fmt: skip
    assert len(coco.loadRes(str(folder / "predictions.json")).anns) == 2


@pytest.mark.parametrize("name", ["metrics.json", "cases.json", "predictions.json"])
def test_a_folder_without_one_of_the_files_is_no_report(folder, name):
    (folder / name).unlink()
    with pytest.raises(EvaluationError, match=f"has no {name}; make one with"):
        read_report(folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cases.json", "{", "not valid JSON"),
        ("cases.json", '{"images": [], "annotations": []}', "holds no images"),
        ("predictions.json", '[{"image_id": 99}]', "run 'mammoscope evaluate' again"),
        ("predictions.json", '[{"image_id": 3, "bbox": [0, 0, 0, 0], "score": 1, "label": "Mass"}]', "run 'mammoscope"),
        ("metrics.json", "[]", "run 'mammoscope evaluate' again"),
        ("metrics.json", "{}", "run 'mammoscope evaluate' again"),
    ],
)
def test_a_report_that_holds_something_else_is_refused(folder, name, content, said):
    (folder / name).write_text(content)
    with pytest.raises(EvaluationError, match=said):
        read_report(folder)


def test_attributes_are_what_the_entries_say_beside_the_format(tmp_path):
    image = AnnotatedImage(
        id=1, path=tmp_path / "one.png", rows=30, columns=20, patient="p", laterality=Laterality.LEFT, view=None,
        boxes=(A, B), labels=("Mass", "Cyst"),
        facts={"id": 1, "file_name": "one.png", "height": 30, "density": 2, "scanner": " ", "origin": {"a": 1},
               "laterality": "left", "attributes": {"vendor": "Hologic"}},
        box_facts=({"id": 5, "bbox": [0, 0, 1, 1], "area": 1.0, "subtlety": 4, "spiculated": True}, {}),
    )  # fmt: skip
    own, boxes = attributes_of(image)
    assert own == {"density": "2", "vendor": "Hologic", "laterality": "L", "view": "unknown"}
    assert boxes == ({"subtlety": "4", "spiculated": "True", "label": "Mass"}, {"label": "Cyst"})
    assert attributes_of(AnnotatedImage(1, tmp_path, 3, 2, "p", Laterality.LEFT, View.CC, (A,), ("Mass",))) == (
        {"laterality": "L", "view": "CC"},
        ({"label": "Mass"},),
    )


def test_lesions_without_attributes_are_a_mistake():
    with pytest.raises(ValueError, match="image 1 has 1 lesions and attributes of 0"):
        Case(ImageResult(1, "p", (A,), ()), "one.png", 30, 20)
