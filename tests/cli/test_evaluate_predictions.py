"""`mammoscope evaluate --predictions`: the same boxes in every form give the same figures as the bundle's own."""

import csv
import json

import cv2
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError

NAMES = ["00001_LEFT_CC.png", "00001_LEFT_MLO.png", "00002_LEFT_CC.png", "00003_LEFT_CC.png"]
FOUND = [  # image, x, y, width, height, score
    (0, 50.0, 60.0, 20.0, 30.0, 0.9),
    (1, 50.0, 60.0, 20.0, 30.0, 0.9),
    (1, 120.0, 200.0, 20.0, 30.0, 0.4),
]


@pytest.fixture
def films(tmp_path):
    """A data set of three patients; the split val is its first two images, test the others."""
    (tmp_path / "films/images").mkdir(parents=True)
    images = []
    for number, name in enumerate(NAMES):
        pixels = np.full((300, 200), 50 + number, np.uint16)
        pixels[0, 0] = 1
        cv2.imwrite(str(tmp_path / "films/images" / name), pixels)
        patient, split = name[:5], "val" if number < 2 else "test"
        images.append(
            {"id": number, "file_name": name, "height": 300, "width": 200, "patient_id": patient, "split": split}
        )
    content = {
        "categories": [{"id": 7, "name": "Mass"}],
        "images": images,
        "annotations": [
            {"id": n + 1, "image_id": n, "category_id": 7, "bbox": [50, 60, 20, 30], "area": 600} for n in range(3)
        ],
    }
    (tmp_path / "films/annotations.json").write_text(json.dumps(content))
    return tmp_path


def run(folder, file, *options):
    given = ["--dataset", folder / "films", "--predictions", file, "--out", folder / "report", "--resamples", 20]
    return CliRunner().invoke(app, ["evaluate", *map(str, [*given, *options])])


def metrics(folder):
    return json.loads((folder / "report/metrics.json").read_text())


def written(folder, form):
    """The predictions in one of the forms that are read."""
    boxes = [(NAMES[n], n, x, y, w, h, score) for n, x, y, w, h, score in FOUND]
    if form == "coco":
        content = [{"image_id": n, "category_id": 7, "bbox": [x, y, w, h], "score": s} for _, n, x, y, w, h, s in boxes]
    elif form == "ultralytics":  # as its validator writes predictions.json: ids of images from names, classes from 1
        content = [
            {"image_id": name[:-4], "file_name": name, "category_id": 1, "bbox": [x, y, w, h], "score": s}
            for name, _, x, y, w, h, s in boxes
        ]
    elif form == "summary":  # as its Results.summary() by image
        content = {}
        for name, _, x, y, w, h, s in boxes:
            box = {"x1": x, "y1": y, "x2": x + w, "y2": y + h}
            content.setdefault(name, []).append({"name": "mass", "class": 0, "confidence": s, "box": box})
    else:
        table = {
            "file_name": [b[0] for b in boxes],
            "xmin": [b[2] for b in boxes],
            "ymin": [b[3] for b in boxes],
            "xmax": [b[2] + b[4] for b in boxes],
            "ymax": [b[3] + b[5] for b in boxes],
            "confidence": [b[6] for b in boxes],
            "label": ["Mass"] * len(boxes),
        }
        file = folder / f"found.{form}"
        if form == "parquet":
            pyarrow.parquet.write_table(pyarrow.table(table), file)
        else:
            with file.open("w", newline="") as opened:
                writer = csv.writer(opened, delimiter=";")
                writer.writerows([table.keys(), *zip(*table.values(), strict=True)])
        return file
    file = folder / f"{form}.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("form", ["coco", "ultralytics", "summary", "csv", "parquet"])
def test_every_form_gives_the_same_figures(films, form):
    result = run(films, written(films, form), "--threshold", "0.5", "--model", "net")
    assert result.exit_code == 0, result.output
    figures = metrics(films)
    assert figures["ap50"] == pytest.approx(67 / 101)
    assert (figures["true_positives"], figures["false_positives"], figures["false_negatives"]) == (2, 0, 1)
    assert (figures["model"], figures["n_images"]) == ("net", 4)
    assert "2 of 4 images have no prediction" in figures["note"]
    assert "does not say which patients" in figures["note"]
    assert CliRunner().invoke(app, ["report", str(films / "report"), "--out", str(films / "page.html")]).exit_code == 0
    assert "Worst misses" in (films / "page.html").read_text()


@pytest.mark.parametrize(
    ("options", "to_picture"),
    [
        (["--pixels", "800x800"], lambda x, y: (x * 4, y * 800 / 300)),
        (["--pixels", "relative"], lambda x, y: (x / 200, y / 300)),
        (["--pixels", "600x600", "--letterbox"], lambda x, y: (x * 2 + 100, y * 2)),
    ],
)
def test_boxes_in_other_pixels(films, options, to_picture):
    content = []
    for number, x, y, width, height, score in FOUND:
        (x0, y0), (x1, y1) = to_picture(x, y), to_picture(x + width, y + height)
        content.append({"image_id": number, "category_id": 7, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score})
    (films / "found.json").write_text(json.dumps(content))
    assert run(films, films / "found.json", *options).exit_code == 0
    predictions = json.loads((films / "report/predictions.json").read_text())
    assert [entry["bbox"] for entry in predictions] == [pytest.approx(list(found[1:5])) for found in FOUND]


def test_class_names_are_mapped_and_left_out(films):
    content = [
        {"image_id": 0, "category_id": 1, "label": "tumour", "bbox": [50, 60, 20, 30], "score": 0.9},
        {"image_id": 1, "category_id": 2, "label": "calc", "bbox": [0, 0, 20, 30], "score": 0.9},
    ]
    (films / "found.json").write_text(json.dumps(content))
    assert run(films, films / "found.json", "--class", "tumour=Mass", "--class", "calc=-").exit_code == 0
    predictions = json.loads((films / "report/predictions.json").read_text())
    assert [(entry["label"], entry["image_id"]) for entry in predictions] == [("Mass", 0)]
    run(films, films / "found.json", "--force")
    assert "tumour (1), calc (1)" in metrics(films)["note"]


def test_a_threshold_from_validation(films):
    file = written(films, "coco")
    result = run(films, file, "--split", "test", "--threshold-from", file)
    assert isinstance(result.exception, MammoscopeError), "none of the predictions is on the test split"
    content = [*json.loads(file.read_text()), {"image_id": 3, "category_id": 7, "bbox": [0, 0, 9, 9], "score": 0.5}]
    file.write_text(json.dumps(content))
    result = run(films, file, "--split", "test", "--threshold-from", file)
    assert result.exit_code == 0, result.output
    figures = metrics(films)
    assert figures["threshold"] == pytest.approx(0.65)  # half way from 0.9 to 0.4
    assert figures["threshold_rule"] == "highest F1 on films, split val, IoU 0.5"
    assert "3 predictions are on images that are not evaluated here" in figures["note"]
    assert figures["overlaps"] == []
    # Chosen on the very images that are evaluated: told, as of a bundle; and what it learnt from stays unknown.
    itself = run(films, file, "--split", "val", "--threshold-from", file, "--force")
    assert "its operating point was chosen on 1 of these 1 patients" in itself.stderr
    (overlap,) = metrics(films)["overlaps"]
    assert (overlap["role"], overlap["patients"]) == ("chosen on", 1)
    assert "is not known" in metrics(films)["note"]
    run(films, file, "--split", "val", "--force")
    moved = films / "validation"
    (films / "report").rename(moved)
    run(films, file, "--split", "test", "--threshold-from", moved)
    assert metrics(films)["threshold"] == pytest.approx(0.65)
    again = run(films, file, "--split", "val", "--threshold-from", moved, "--force")
    assert "its operating point was chosen on 1 of these 1 patients" in again.stderr


def test_what_its_model_learnt_from_can_be_said(films):
    file = written(films, "coco")
    result = run(films, file, "--trained-on", f"{films / 'films'}:val")
    assert "learnt from 1 of these 3 patients" in result.stderr
    assert "2 of 4 image files are the same" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("found.json", "[{}]", "found.json, entry 1: it names no image"),
        ("found.json", '[{"image_id": 0, "bbox": [1, 2, 3, 4]}]', "entry 1: it names no score"),
        ("found.json", '[{"image_id": 0, "score": 1, "bbox": [1, 2]}]', "entry 1: its box or score is not"),
        ("found.json", '[{"image_id": 0, "score": 9, "bbox": [1, 2, 3, 4]}]', "a score from 0 to 1"),
        ("found.json", '[{"image_id": 99, "score": 1, "bbox": [1, 2, 3, 4]}]', "none of the 1 predictions"),
        ("found.json", "{", "is not valid JSON"),
        ("found.csv", "file_name,score\na.png,1\n", "line 2: its box or score"),
        ("found.parquet", "PAR1", "cannot be read as a Parquet file"),
        ("found.txt", "", "ends in neither .json, .csv nor .parquet"),
    ],
)
def test_a_file_that_holds_no_predictions_is_told_in_a_sentence(films, name, content, said):
    (films / name).write_text(content)
    error = run(films, films / name).exception
    assert isinstance(error, MammoscopeError)
    assert said in str(error)
    assert not (films / "report").exists()


@pytest.mark.parametrize(
    "options",
    [["--bundle", "a.onnx"], ["--pixels", "big"], ["--class", "Mass"], ["--class", "0=Cyst"], ["--letterbox"]],
)
def test_options_that_do_not_fit(films, options):
    assert isinstance(run(films, written(films, "coco"), *options).exception, MammoscopeError)


def test_options_of_predictions_need_them(films):
    arguments = ["evaluate", "--dataset", films / "films", "--out", films / "report", "--model", "net"]
    error = CliRunner().invoke(app, [str(a) for a in arguments]).exception
    assert isinstance(error, MammoscopeError)
    assert "--predictions" in str(error)


def test_images_that_nobody_annotated_are_set_aside_and_told(films):
    path = films / "films/annotations.json"
    content = json.loads(path.read_text())
    content["images"][3]["review"] = "unannotated"
    path.write_text(json.dumps(content))
    file = written(films, "coco")

    assert run(films, file).exit_code == 0
    figures = metrics(films)
    assert (figures["n_images"], figures["n_images_without_boxes"], figures["unannotated_set_aside"]) == (3, 0, 1)
    assert "1 of 4 images are unannotated and were set aside" in figures["note"]

    assert run(films, file, "--count-unannotated", "--force").exit_code == 0
    figures = metrics(films)
    assert (figures["n_images"], figures["n_images_without_boxes"], figures["unannotated_set_aside"]) == (4, 1, 0)
    assert "unannotated" not in figures["note"]
