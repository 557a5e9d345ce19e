"""Two classes by lines in the recipe: train, export, evaluate each."""

import json
from pathlib import Path

import pytest

from mammoscope.inference import Bundle

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set with the masses of odd images called benign, of even ones malignant."""
    import shutil

    folder = tmp_path_factory.mktemp("classes") / "set"
    shutil.copytree(tiny_dataset, folder, ignore=shutil.ignore_patterns(".prepared"))
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry["pathology"] = "BENIGN" if entry["image_id"] % 2 else "MALIGNANT"
        entry["category_id"] = 1 + entry["image_id"] % 2
    content["categories"] = [{"id": 1, "name": "Malignant"}, {"id": 2, "name": "Benign"}]
    path.write_text(json.dumps(content))
    return folder


def test_two_classes_are_trained_exported_and_evaluated(dataset: Path, command, tiny_recipe, tmp_path: Path):
    recipe = tiny_recipe(tmp_path / "run", data__dataset=str(dataset))
    done = command("train", recipe)
    assert done.returncode == 2
    assert "has boxes labelled Benign, Malignant, the recipe has the classes Mass" in " ".join(done.stderr.split())

    classes = ("--set", 'detector.classes=["BENIGN", "MALIGNANT"]', "--set", "data.label_from=pathology")
    done = command("train", recipe, *classes)
    assert done.returncode == 0, done.stderr
    by_class = json.loads((tmp_path / "run" / "validation" / "classes.json").read_text())
    assert {name: figures["n_boxes"] for name, figures in by_class.items()} == {"BENIGN": 1, "MALIGNANT": 2}
    assert "| MALIGNANT | 2 |" in (tmp_path / "run" / "validation" / "report.md").read_text()
    curves = [json.loads(line) for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()]
    validation = next(line["validation"] for line in curves if line.get("validation"))
    assert set(validation["ap50_by_class"]) == {"BENIGN", "MALIGNANT"}

    done = command("export", tmp_path / "run", "--out", tmp_path / "two.onnx")
    assert done.returncode == 0, done.stderr
    assert Bundle.open(tmp_path / "two.onnx").metadata.classes == ("BENIGN", "MALIGNANT")


def test_a_bundle_of_two_classes_is_evaluated_by_class(dataset: Path, command, tiny_recipe, tmp_path: Path):
    recipe = tiny_recipe(tmp_path / "run", data__dataset=str(dataset), detector__classes=["Malignant", "Benign"])
    assert command("train", recipe).returncode == 0
    assert command("export", tmp_path / "run", "--out", tmp_path / "two.onnx").returncode == 0

    says = {}
    for label in ("Malignant", "Benign"):
        out = tmp_path / label
        common = ("--dataset", dataset, "--split", "val", "--label", label, "--out", out, "--pictures", "none")
        done = command("evaluate", "--bundle", tmp_path / "two.onnx", *common, "--resamples", "0")
        assert done.returncode == 0, done.stderr
        found = json.loads((out / "predictions.json").read_text())
        says[label] = {entry["category_id"] for entry in found}
        assert json.loads((out / "metrics.json").read_text())["n_boxes"] == {"Malignant": 2, "Benign": 1}[label]
    assert says["Malignant"] <= {1}
    assert says["Benign"] <= {2}
    assert says["Malignant"] | says["Benign"]
