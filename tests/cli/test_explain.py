import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from pydicom import dcmread
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError
from mammoscope.explain import HeatMap
from mammoscope.explanation import Explanation
from mammoscope.findings import Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Placement
from mammoscope.phantom import screening_study

QUICK = ("--masks", "20", "--threads", "1", "--threshold", "0.03")


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return screening_study(1, masses=1, rows=400, columns=300).save(tmp_path_factory.mktemp("study"))[0]


@pytest.fixture(scope="module")
def picture(dicom: Path) -> Path:
    pixels = dcmread(dicom).pixel_array
    file = dicom.with_name("breast.png")
    Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(file)
    return file


def explain(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


def refused(*arguments: object) -> str:
    result = explain(*arguments)
    assert isinstance(result.exception, MammoscopeError), result.output
    return str(result.exception)


def test_a_dicom_mammogram_gets_picture_map_and_object(dicom: Path, tmp_path: Path):
    result = explain(dicom, "--out", tmp_path, "--finding", 1, *QUICK)

    assert result.exit_code == 0, result.output
    assert "Finding 1: Mass" in result.output
    assert "D-RISE, 20 masks" in result.output
    explained = json.loads((tmp_path / "explanations.json").read_text())
    assert explained["file"] == str(dicom)
    assert explained["threshold"] == 0.03
    (entry,) = explained["findings"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "explanations.json",
        entry["picture"],
        entry["map"]["file"],
        entry["object"],
    }
    capture = dcmread(tmp_path / entry["object"])
    source = dcmread(dicom, stop_before_pixels=True)
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert capture.PatientID == source.PatientID
    with Image.open(tmp_path / entry["picture"]) as drawn:
        assert (np.asarray(drawn) == capture.pixel_array).all()


def test_the_map_holds_the_values_in_the_files_geometry(picture: Path, tmp_path: Path):
    result = explain(picture, "--out", tmp_path, "--finding", 1, *QUICK)

    assert result.exit_code == 0, result.output
    (entry,) = json.loads((tmp_path / "explanations.json").read_text())["findings"]
    assert entry["object"] is None
    with Image.open(tmp_path / entry["map"]["file"]) as stored:
        grey = np.asarray(stored)
    assert grey.shape == (400, 300)
    assert (grey.min(), grey.max()) == (0, 65535)
    low, high = entry["map"]["value_of_0"], entry["map"]["value_of_65535"]
    assert low < 0 < high
    # Enlarging smoothly takes a little off the peak and adds nothing.
    assert 0.8 * entry["peak"] < high <= entry["peak"]
    assert -1 <= entry["agreement"] <= 1


def test_nothing_found_is_said_with_a_way_on(picture: Path, tmp_path: Path):
    result = explain(picture, "--out", tmp_path / "out", "--threads", 1, "--threshold", 1)

    assert result.exit_code == 0, result.output
    assert "nothing found at 1.000" in result.output
    assert "--threshold" in result.output
    assert not (tmp_path / "out").exists()


def test_a_finding_that_is_not_there(picture: Path):
    assert "no finding 500: give a lower --finding" in refused(picture, "--finding", 500, *QUICK)


def test_a_dicom_object_of_a_picture(picture: Path):
    assert refused(picture, "--dicom", *QUICK).endswith("a DICOM object needs a DICOM mammogram: leave out --dicom")


def test_a_method_and_its_model(picture: Path, tmp_path: Path):
    assert "--run" in refused(picture, "--method", "gradient")
    assert "mammoscope export" in refused(picture, "--method", "drise", "--run", tmp_path)
    assert "either --bundle or --run" in refused(picture, "--bundle", "a.onnx", "--run", tmp_path)


def test_a_dicom_mammogram_that_no_object_can_refer_to_is_explained_all_the_same(dicom: Path, tmp_path: Path):
    odd = dcmread(dicom)
    del odd.SeriesInstanceUID
    odd.save_as(tmp_path / "odd.dcm")

    result = explain(tmp_path / "odd.dcm", "--out", tmp_path / "out", "--finding", 1, *QUICK)

    assert result.exit_code == 1
    assert "finding 1 has no DICOM object: odd.dcm lacks SeriesInstanceUID" in result.output
    assert (tmp_path / "out" / "odd.finding-1.png").is_file()


def test_a_folder_that_cannot_be_written(picture: Path, tmp_path: Path):
    (tmp_path / "file").write_text("no folder")

    assert "name another --out" in refused(picture, "--out", tmp_path / "file", "--finding", 1, *QUICK)


def test_gradients_without_torch(picture: Path):
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name.split('.')[0] == 'torch' else find(name, *rest)\n"
        "from mammoscope.cli import main; sys.argv = ['mammoscope', *sys.argv[1:]]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", str(picture), "--run", "runs/x"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    sentence = " ".join(done.stderr.split())
    assert "'mammoscope explain --run' needs torch" in sentence
    assert "pip install '.[train]'" in sentence


def heat_map(values: np.ndarray) -> HeatMap:
    return HeatMap(values.astype(np.float32), Placement(0, 0, 1, 1), "by hand", "share")


def test_the_sanity_check_is_failed_by_a_map_that_is_only_the_picture():
    rng = np.random.default_rng(0)
    picture, others = rng.random((40, 40)), rng.random((3, 40, 40))
    reading = Reading("x", ReadingStatus.FOUND, (Finding(Box(0, 0, 9, 9), 0.5),), rows=40, columns=40, threshold=0.1)

    only_the_picture = Explanation(1, heat_map(picture), {"all weights": heat_map(picture)})
    learned = Explanation(1, heat_map(others[0]), {"head": heat_map(others[0]), "all weights": heat_map(others[1])})

    assert not only_the_picture.sane
    assert "THE SAME MAP" in only_the_picture.summary(reading)
    # What counts is the network without anything it learned; with half of it left the map may still be alike.
    assert learned.sane
    assert "another map, as it should be" in learned.summary(reading)
    assert learned.correlations["head"] == pytest.approx((1, 1))
    assert Explanation(1, heat_map(picture)).sane
