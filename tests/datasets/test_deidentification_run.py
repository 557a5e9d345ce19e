"""Folders in and out: phantoms with names planted, burned-in text held back, a standard's validator."""

import csv
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, JPEGLSLossless
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.datasets import DatasetError
from mammoscope.datasets.deidentification import Keep, deidentify
from mammoscope.imaging import read_mammogram
from mammoscope.phantom.study import screening_study


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies of one patient each, four views."""
    folder = tmp_path_factory.mktemp("phantoms")
    for seed in (1, 2):
        screening_study(seed, rows=400, columns=300).save(folder / f"Quixworth {seed}")
    return folder


@pytest.fixture
def source(phantoms: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantoms, tmp_path / "in"))


def written(out: Path) -> list[Path]:
    return sorted(out.rglob("*.dcm"))


def with_text(path: Path, text: str = "QUIXWORTH ZADIE 03.02.1961") -> None:
    """Burn text into the picture beside the breast."""
    dataset = dcmread(path)
    pixels = dataset.pixel_array.copy()
    size = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0]
    x = 300 - size - 5 if path.name.startswith("L") else 5
    letters = np.zeros(pixels.shape, np.uint8)
    cv2.putText(letters, text, (x, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    pixels[letters > 100] = pixels.max()
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)


@pytest.mark.slow
def test_a_folder_becomes_pseudonymous_and_a_second_run_adds_nothing(source: Path, tmp_path: Path) -> None:
    out, keys = tmp_path / "out", tmp_path / "keys.jsonl"
    done = deidentify(source, out, keys)
    assert (done.written, len(done.patients), done.left_out, done.held_back) == (8, 2, [], [])
    assert {path.parent.name for path in written(out)} == done.patients
    again = deidentify(source, out, keys)
    assert (again.written, again.again, again.patients) == (0, 8, done.patients)
    left = sorted(path.name for path in out.iterdir())
    assert left == sorted([*done.patients, "deidentification.json"])
    before = {read_mammogram(path).pixels.tobytes() for path in source.rglob("*.dcm")}
    assert {read_mammogram(path).pixels.tobytes() for path in written(out)} == before


def test_a_patient_keeps_the_pseudonym_in_another_folder(source: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.jsonl"
    first = deidentify(source / "Quixworth 1", tmp_path / "a", keys)
    second = deidentify(source / "Quixworth 1" / "L_CC.dcm", tmp_path / "b", keys)
    assert second.patients == first.patients


@pytest.mark.slow
def test_dciodvfy_finds_no_new_error(source: Path, tmp_path: Path) -> None:
    beside = Path(sys.executable).parent / "dciodvfy"
    tool = str(beside) if beside.exists() else shutil.which("dciodvfy")
    if tool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("dciodvfy is not installed")
        pytest.skip("dciodvfy is not installed")
    for name, keep in (("basic", ()), ("all", tuple(Keep))):
        deidentify(source / "Quixworth 1", tmp_path / name, tmp_path / "keys.jsonl", keep)
        for path in written(tmp_path / name):
            said = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
            lines = (said.stdout + said.stderr).splitlines()
            assert any("MammographyX" in line or "Mammo" in line for line in lines), "the validator did not run"
            assert [line for line in lines if line.startswith("Error")] == []


def test_images_with_text_are_held_back_listed_and_shown(source: Path, tmp_path: Path) -> None:
    marked = source / "Quixworth 1" / "L_CC.dcm"
    with_text(marked)
    out, keys = tmp_path / "out", tmp_path / "keys.jsonl"
    done = deidentify(source, out, keys)
    assert done.written == 7
    assert [held.path for held in done.held_back] == [marked]
    assert done.held_back[0].reasons == ("Letters or digits seem to stand beside the breast.",)
    assert done.list_path is not None
    assert done.page_path is not None
    assert [row["file"] for row in csv.DictReader(done.list_path.open())] == [str(marked)]
    page = done.page_path.read_text()
    assert "1 image that may have text" in page
    assert page.count('<img src="data:image/jpeg;base64,') == 1
    assert stat.S_IMODE(done.page_path.stat().st_mode) == stat.S_IMODE(done.list_path.stat().st_mode) == 0o600
    assert not done.page_path.is_relative_to(out)
    allowed = deidentify(marked, out, keys, allow_burned_in=True)
    assert (allowed.written, len(allowed.held_back), len(written(out))) == (1, 1, 8)
    assert done.page_path.read_text() == page  # the list that is being worked through stays
    after = deidentify(source, out, keys)
    assert (after.again, after.held_back) == (8, [])


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "Burned In Annotation"),
        ({"RecognizableVisualFeatures": "YES"}, "Recognizable Visual Features"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "Image Type"),
    ],
)
def test_what_the_header_says_holds_an_image_back(
    source: Path, tmp_path: Path, attributes: dict[str, str], reason: str
) -> None:
    path = source / "Quixworth 1" / "R_MLO.dcm"
    dataset = dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    (held,) = deidentify(path, tmp_path / "out", tmp_path / "keys.jsonl").held_back
    assert len(held.reasons) == 1
    assert reason in held.reasons[0]


def test_an_image_that_cannot_be_looked_at_is_held_back(source: Path, tmp_path: Path) -> None:
    path = source / "Quixworth 1" / "R_MLO.dcm"
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0\x04\0\0\0\xff\xd8\xff\xd9"
    dataset.save_as(path)
    (held,) = deidentify(path, tmp_path / "out", tmp_path / "keys.jsonl").held_back
    assert held.reasons[0].startswith("It could not be looked at")
    assert held.picture == ""


def test_an_image_without_a_breast_is_held_back(source: Path, tmp_path: Path) -> None:
    path = source / "Quixworth 1" / "R_MLO.dcm"
    dataset = dcmread(path)
    pixels = np.zeros((400, 300), "<u2")
    pixels[200:210, 100:110] = 4000
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)
    (held,) = deidentify(path, tmp_path / "out", tmp_path / "keys.jsonl").held_back
    assert "No breast was found" in held.reasons[0]


def test_what_is_no_image_or_of_nobody_is_left_out_and_said(source: Path, tmp_path: Path) -> None:
    folder = source / "Quixworth 1"
    for name, change in {"R_CC.dcm": ("PatientID", ""), "L_CC.dcm": ("SOPClassUID", EncapsulatedPDFStorage)}.items():
        dataset = dcmread(folder / name)
        setattr(dataset, *change)
        dataset.save_as(folder / name)
    (folder / "R_MLO.dcm").write_bytes((folder / "R_MLO.dcm").read_bytes()[:9000])
    (folder / "nonsense.dcm").write_bytes(b"nonsense" * 99)
    done = deidentify(folder, tmp_path / "out", tmp_path / "keys.jsonl", allow_burned_in=True)
    reasons = {path.name: reason for path, reason in done.left_out}
    assert done.written == 1
    assert reasons["R_CC.dcm"].startswith("it has no Patient ID")
    assert reasons["L_CC.dcm"].startswith("its kind may hold text about the patient: Encapsulated PDF")
    assert set(reasons) == {"R_CC.dcm", "L_CC.dcm", "R_MLO.dcm", "nonsense.dcm"}
    assert len(written(tmp_path / "out")) == 1


def test_a_file_without_its_header_is_taken(source: Path, tmp_path: Path) -> None:
    path = source / "Quixworth 1" / "R_CC.dcm"
    dataset = dcmread(path)
    plain = Dataset({element.tag: element for element in dataset})
    plain.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    deidentify(path, tmp_path / "out", tmp_path / "keys.jsonl")
    (out,) = written(tmp_path / "out")
    assert dcmread(out).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_folders_that_cannot_be_used(source: Path, tmp_path: Path) -> None:
    keys, out = tmp_path / "keys.jsonl", tmp_path / "out"
    out.mkdir()
    with pytest.raises(DatasetError, match="holds no DICOM file"):
        deidentify(out, tmp_path / "other", keys)
    out.rmdir()
    with pytest.raises(DatasetError, match="within each other"):
        deidentify(source, source / "out", keys)
    with pytest.raises(DatasetError, match="keep it apart from the images"):
        deidentify(source, out, out / "keys.jsonl")
    with pytest.raises(DatasetError, match="keep it apart from the images"):
        deidentify(source, out, source / "keys.jsonl")
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="holds something else"):
        deidentify(source, out, keys)
    (out / "thesis.txt").unlink()
    deidentify(source, out, keys)
    with pytest.raises(DatasetError, match="other options or another key file"):
        deidentify(source, out, keys, [Keep.DEVICE])
    with pytest.raises(DatasetError, match="other options or another key file"):
        deidentify(source, out, tmp_path / "others.jsonl")


def test_the_command(source: Path, tmp_path: Path) -> None:
    with_text(source / "Quixworth 2" / "R_CC.dcm")
    arguments = ["dataset", "deidentify", str(source), str(tmp_path / "out"), "--keys", str(tmp_path / "keys.jsonl")]
    done = CliRunner().invoke(app, [*arguments, "--keep", "dates-shifted, device"])
    assert done.exit_code == 1
    assert "7 images of 2 patients written" in done.output
    assert "Held back: 1 images may have text burned in" in done.output
    done = CliRunner().invoke(app, [*arguments, "--keep", "dates-shifted,device", "--allow-burned-in"])
    assert done.exit_code == 0, done.output
    wrong = CliRunner().invoke(app, [*arguments, "--keep", "names"])
    assert "choose from dates-shifted, device, patient" in str(wrong.exception)
