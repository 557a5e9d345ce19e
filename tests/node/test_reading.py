from pathlib import Path

import pytest
from pydicom import FileDataset

from mammoscope.findings import Algorithm, Reading, ReadingStatus
from mammoscope.imaging import Mammogram, MammogramReader
from mammoscope.node.reading import ReadingInterruptedError, StudyReader


class BrokenDetector:
    algorithm = Algorithm("Broken", "1")

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        raise ZeroDivisionError(str(mammogram.header.PatientName if mammogram.header else threshold))


@pytest.fixture
def files(tmp_path: Path, images: list[FileDataset]) -> list[Path]:
    paths = [tmp_path / f"{image.SOPInstanceUID}.dcm" for image in images]
    for image, path in zip(images, paths, strict=True):
        image.save_as(path, enforce_file_format=True)
    return paths


def read(files: list[Path], detector, threshold: float | None = None):
    with MammogramReader() as source:
        return StudyReader(detector, source, threshold).read(files)


def test_every_image_is_read(files: list[Path], detector) -> None:
    reading = read(files, detector)
    assert [r.name for r in reading.readings] == [f.stem for f in files]
    assert {r.status for r in reading.readings} == {ReadingStatus.FOUND}
    assert [str(i.laterality) + str(i.view) for i in reading.images] == ["RCC", "LCC", "RMLO", "LMLO"]


def test_the_threshold_reaches_the_detector(files: list[Path], detector) -> None:
    reading = read(files[:1], detector, threshold=0.95)
    assert reading.readings[0].status is ReadingStatus.NOTHING_FOUND


def test_a_truncated_image_says_why_and_does_not_stop_the_others(files: list[Path], detector) -> None:
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[: len(whole) // 2])
    reading = read(files, detector)
    statuses = [r.status for r in reading.readings]
    assert statuses == [ReadingStatus.FOUND, ReadingStatus.NOT_PROCESSED, ReadingStatus.FOUND, ReadingStatus.FOUND]
    assert reading.images[1].reading.reason
    assert reading.images[1].sop_instance_uid == files[1].stem


def test_an_image_that_no_object_can_refer_to_is_named_too(files: list[Path], detector) -> None:
    files[0].write_bytes(b"not DICOM at all")
    reading = read(files[:2], detector)
    assert [r.name for r in reading.unreferable] == [files[0].stem]
    assert len(reading.images) == 1
    assert len(reading.readings) == 2


def test_a_detector_that_fails_gives_a_reason_without_patient_data(
    files: list[Path], images: list[FileDataset], capsys: pytest.CaptureFixture[str]
) -> None:
    reading = read(files[:1], BrokenDetector())
    assert reading.readings[0].status is ReadingStatus.NOT_PROCESSED
    assert reading.readings[0].reason == "The detector failed on this image."
    logged = capsys.readouterr()
    assert "ZeroDivisionError" in logged.out + logged.err
    assert str(images[0].PatientName) not in logged.out + logged.err


def test_an_interrupted_study_gives_no_reading(files: list[Path], detector) -> None:
    answers = [False, True]
    with MammogramReader() as source, pytest.raises(ReadingInterruptedError):
        StudyReader(detector, source).read(files, interrupted=lambda: answers.pop(0))
    assert answers == []
