import json

import pydicom
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app, main

SMALL = ["--rows", "160", "--columns", "120"]


def test_writes_four_objects_and_the_truth(tmp_path):
    result = CliRunner().invoke(
        app, ["phantom", "--out", str(tmp_path / "study"), "--seed", "3", "--masses", "1", *SMALL]
    )
    assert result.exit_code == 0
    assert sorted(p.name for p in (tmp_path / "study").iterdir()) == [
        "L_CC.dcm",
        "L_MLO.dcm",
        "R_CC.dcm",
        "R_MLO.dcm",
        "truth.json",
    ]
    truth = json.loads((tmp_path / "study" / "truth.json").read_text())
    assert len(truth["annotations"]) == 2
    assert pydicom.dcmread(tmp_path / "study" / "R_CC.dcm").PatientID == "PHANTOM-3"
    assert result.stdout.count("1 mass\n") == 2
    assert result.stdout.count("0 masses\n") == 2


def test_width_follows_height(tmp_path):
    assert CliRunner().invoke(app, ["phantom", "--out", str(tmp_path), "--rows", "200"]).exit_code == 0
    dataset = pydicom.dcmread(tmp_path / "L_CC.dcm")
    assert (dataset.Rows, dataset.Columns) == (200, 150)


def test_bad_values_are_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mammoscope", "phantom", "--out", str(tmp_path), "--masses", "9"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "the number of masses of a synthetic study must be 0 to 6, not 9" in capsys.readouterr().err
