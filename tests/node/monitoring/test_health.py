from datetime import UTC, datetime
from pathlib import Path

from pydicom import FileDataset

from mammoscope.imaging import PresentationIntent
from mammoscope.node.monitoring.phantom_check import PHANTOM_ROOT, LastRound, PhantomRound, is_phantom, phantom_images


def small_images(study: str) -> list[FileDataset]:
    return phantom_images(study, rows=256, columns=192)


def test_a_phantom_is_told_by_its_study_and_no_patient_is_taken_for_one():
    assert is_phantom(f"{PHANTOM_ROOT}.1")
    assert not is_phantom(PHANTOM_ROOT)
    assert not is_phantom(f"{PHANTOM_ROOT}1")
    assert not is_phantom("1.2.840.113619.2.1")


def test_the_images_of_a_round_have_uids_of_their_own_that_fit():
    study = f"{PHANTOM_ROOT}.{10**13 - 1}"  # until the year 2286
    images = small_images(study)
    assert {i.StudyInstanceUID for i in images} == {study}
    assert len({i.SOPInstanceUID for i in images}) == 4
    assert all(len(i.SOPInstanceUID) <= 64 and i.SOPInstanceUID.is_valid for i in images)
    assert all(i.file_meta.MediaStorageSOPInstanceUID == i.SOPInstanceUID for i in images)
    assert {i.PatientID for i in images} == {"PHANTOM-0"}


def test_a_phantom_may_be_for_processing():
    image, *_ = phantom_images(f"{PHANTOM_ROOT}.1", 256, 192, PresentationIntent.FOR_PROCESSING)
    assert image.PresentationIntentType == "FOR PROCESSING"
    assert image.SOPClassUID == image.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.1.2.1"


def test_a_damaged_note_of_the_last_round_is_none(tmp_path: Path):
    kept = LastRound(tmp_path)
    assert kept.load() is None
    (tmp_path / "phantom").mkdir()
    kept.save(PhantomRound("1.2", datetime.now(UTC), came_round=True))
    assert kept.load().study == "1.2"
    (tmp_path / "phantom" / "last.json").write_text("{")
    assert kept.load() is None
