"""`mammoscope dataset`, as a user types it."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.datasets import DatasetError


@pytest.fixture
def collection(tmp_path):
    (tmp_path / "pictures").mkdir()
    names = [f"{patient:05}_LEFT_{view}.png" for patient in range(1, 7) for view in ("CC", "MLO")]
    for name in names:
        cv2.imwrite(str(tmp_path / "pictures" / name), np.zeros((40, 50), np.uint8))
    coco = {
        "categories": [{"id": 1, "name": "Mass"}],
        "images": [{"id": n, "file_name": name, "height": 40, "width": 50} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [40, 30, 20 if n == 1 else 10, 10]} for n in range(1, 12)
        ],
    }
    (tmp_path / "set.json").write_text(json.dumps(coco))
    rows = [f"{name},,," if n == 0 else f"{name},1000,500,0.5" for n, name in enumerate(names)]
    head = "file_name,est_native_rows,est_native_cols,est_aspect_cols_over_rows"
    (tmp_path / "sizes.csv").write_text("\n".join([head, *rows]) + "\n")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)], catch_exceptions=True)


def test_import_split_show(collection):
    out = collection / "out"
    source = ["--annotations", collection / "set.json", "--images", collection / "pictures", "--out", out]
    imported = run("import", "coco", *source, "--native-sizes", collection / "sizes.csv")
    assert imported.exit_code == 0, imported.output
    assert "12 images of 6 patients with 11 boxes; 1 images have no box." in imported.output
    assert "1 of them have no native size: they got the median aspect of the others, 0.5000" in imported.output
    assert "1 boxes reached over the image's edge" in imported.output
    split = run("split", out, "--val", "0.34", "--seed", "1")
    assert split.exit_code == 0, split.output
    assert "No patient is in two splits" in split.output
    shown = run("show", out)
    assert shown.exit_code == 0
    for fact in ("Mass 11", "CC 6, MLO 6", "train 8, val 4", "100 to 100"):
        assert fact in shown.output


def test_errors_reach_the_user(collection):
    result = run("show", collection)
    assert isinstance(result.exception, DatasetError)
    result = run("split", collection / "nothing")
    assert isinstance(result.exception, DatasetError)


def test_folds_are_divided_beside_the_split(collection):
    out = collection / "out"
    source = ["--annotations", collection / "set.json", "--images", collection / "pictures", "--out", out]
    run("import", "coco", *source, "--native-sizes", collection / "sizes.csv")
    run("split", out, "--val", 0.2, "--test", 0.34)
    done = run("split", out, "--folds", 2)

    assert done.exit_code == 0, done.output
    assert "No patient is in two folds. Locked as" in done.output
    shown = " ".join(run("show", out).output.split())
    assert "1 4, 2 4, none 4" in shown  # two of six patients are for the test
    both = run("split", out, "--folds", 2, "--val", 0.2)
    assert "--folds does not go with --split, --val and --test" in str(both.exception)
