import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID

from mammoscope.phantom import screening_study


def find_dciodvfy():
    found = shutil.which("dciodvfy") or shutil.which("dciodvfy", path=str(Path(sys.executable).parent))
    if found is None:
        reason = "dciodvfy is not installed (Python package dicom3tools)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def errors(dciodvfy, path):
    done = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.validators
@pytest.mark.parametrize(("masses", "rows", "columns"), [(2, 512, 384), (0, 300, 400)])
def test_dciodvfy_finds_no_error(tmp_path, masses, rows, columns):
    dciodvfy = find_dciodvfy()
    for path in screening_study(1, masses=masses, rows=rows, columns=columns).save(tmp_path):
        assert errors(dciodvfy, path) == []


@pytest.mark.validators
def test_dciodvfy_would_see_a_missing_attribute(tmp_path):
    dciodvfy = find_dciodvfy()
    (path, *_) = screening_study(1, rows=128, columns=96).save(tmp_path)
    dataset = pydicom.dcmread(path)
    del dataset.ImageLaterality
    dataset.save_as(path)
    assert any("ImageLaterality" in line.replace(" ", "") for line in errors(dciodvfy, path))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, ("R", "CC", "399162004", ["P", "L"], 0)),
        (1, ("L", "CC", "399162004", ["A", "R"], 0)),
        (2, ("R", "MLO", "399368009", ["P", "FL"], 45)),
        (3, ("L", "MLO", "399368009", ["A", "FR"], -45)),
    ],
)
def test_side_and_view_are_said_everywhere(small_study, number, expected):
    dataset = small_study.images[number].dataset
    assert expected == (
        dataset.ImageLaterality,
        dataset.ViewPosition,
        dataset.ViewCodeSequence[0].CodeValue,
        list(dataset.PatientOrientation),
        dataset.PositionerPrimaryAngle,
    )


def test_orientation_agrees_with_the_picture(small_study):
    """Rows that lead to posterior end at the chest wall: tissue on the right edge of the image."""
    for image in small_study.images:
        pixels = image.dataset.pixel_array
        chest_wall = pixels[:, -1] if image.dataset.PatientOrientation[0] == "P" else pixels[:, 0]
        front = pixels[:, 0] if image.dataset.PatientOrientation[0] == "P" else pixels[:, -1]
        assert (chest_wall > 0).sum() > 0.5 * len(chest_wall)
        assert front.max() == 0


def test_it_is_obviously_no_patient(small_study):
    dataset = small_study.images[0].dataset
    assert dataset.PatientName == "Phantom^Mammoscope"
    assert dataset.PatientID == "PHANTOM-5"
    assert dataset.QualityControlSubject == "YES"
    assert dataset.PatientBirthDate == ""


def test_pixels_are_described_as_they_are(small_study):
    dataset = small_study.images[0].dataset
    assert dataset.SOPClassUID.name == "Digital Mammography X-Ray Image Storage - For Presentation"
    assert dataset.PresentationIntentType == "FOR PRESENTATION"
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (16, 12, 11)
    assert dataset.PhotometricInterpretation == "MONOCHROME2"
    # The window covers 0 to 4095: PS3.3 C.11.2.1.2.1, from center - 0.5 - (width - 1) / 2 on.
    assert (dataset.WindowCenter, dataset.WindowWidth) == (2048, 4096)
    # 240 mm over 512 rows is 0.46875 mm, upwards to four decimals.
    assert [float(v) for v in dataset.PixelSpacing] == [0.4688, 0.4688]
    assert dataset.PixelSpacing == dataset.ImagerPixelSpacing
    assert list(dataset.FieldOfViewDimensions) == [240, 180]


def test_uids_are_valid_and_derived_from_a_uuid(small_study):
    dataset = small_study.images[0].dataset
    for uid in (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID):
        assert UID(uid).is_valid
        assert uid.startswith("2.25.")
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
