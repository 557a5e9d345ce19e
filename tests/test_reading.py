import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread

from mammoscope.findings import Algorithm, Reading, ReadingStatus
from mammoscope.imaging import Mammogram, MammogramReader, PresentationIntent
from mammoscope.inference.pool import ModelLostError
from mammoscope.phantom import screening_study
from mammoscope.reading import ImageReader
from mammoscope.results import ReadMammogram

_SPEC = importlib.util.spec_from_file_location("run_node", Path(__file__).parent / "node" / "run_node.py")
assert _SPEC
assert _SPEC.loader
run_node = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(run_node)


@pytest.fixture
def detector():
    return run_node.BrightestBlob()


@pytest.fixture
def images(tmp_path: Path) -> list[FileDataset]:
    """The four views of one synthetic study."""
    return [dcmread(file) for file in screening_study(1, rows=256, columns=192).save(tmp_path / "study")]


class BrokenDetector:
    algorithm = Algorithm("Broken", "1")
    preprocessing = None

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        raise ZeroDivisionError(str(mammogram.header.PatientName if mammogram.header else threshold))


@pytest.fixture(scope="module")
def source() -> Iterator[MammogramReader]:
    with MammogramReader() as source:
        yield source


@pytest.fixture
def files(tmp_path: Path, images: list[FileDataset]) -> list[Path]:
    paths = [tmp_path / f"{image.SOPInstanceUID}.dcm" for image in images]
    for image, path in zip(images, paths, strict=True):
        image.save_as(path, enforce_file_format=True)
    return paths


def read(source: MammogramReader, file: Path, detector, **options: object) -> ReadMammogram:
    outcome = ImageReader(detector, source, **options).read(file)
    assert isinstance(outcome, ReadMammogram)
    return outcome


def test_an_image_is_read_under_its_uid(source, files: list[Path], detector) -> None:
    outcome = read(source, files[0], detector)
    assert outcome.reading.name == files[0].stem
    assert outcome.reading.status is ReadingStatus.FOUND
    assert f"{outcome.laterality}{outcome.view}" == "RCC"


def test_the_threshold_reaches_the_detector(source, files: list[Path], detector) -> None:
    assert read(source, files[0], detector, threshold=0.95).reading.status is ReadingStatus.NOTHING_FOUND


def test_a_truncated_image_says_why(source, files: list[Path], detector) -> None:
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[: len(whole) // 2])
    outcome = read(source, files[1], detector)
    assert outcome.reading.status is ReadingStatus.NOT_PROCESSED
    assert outcome.reading.reason
    assert outcome.sop_instance_uid == files[1].stem


def test_an_image_that_no_object_can_refer_to_is_named_too(source, files: list[Path], detector) -> None:
    files[0].write_bytes(b"not DICOM at all")
    outcome = ImageReader(detector, source).read(files[0])
    assert isinstance(outcome, Reading)
    assert outcome.name == files[0].stem


def test_an_image_that_the_model_does_not_read_is_shown_with_the_reason(
    source, files: list[Path], images: list[FileDataset], detector
) -> None:
    images[0].BreastImplantPresent = "YES"
    images[0].save_as(files[0], enforce_file_format=True)
    outcome = read(source, files[0], detector)
    assert outcome.reading.reason == "The breast has an implant that is not displaced."
    assert (outcome.laterality, outcome.view) == ("R", "CC")
    intents = (PresentationIntent.FOR_PROCESSING,)
    assert "for presentation" in str(read(source, files[1], detector, intents=intents).reading.reason)


def test_a_detector_that_fails_gives_a_reason_without_patient_data(
    source, files: list[Path], images: list[FileDataset], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = read(source, files[0], BrokenDetector())
    assert outcome.reading.reason == "The detector failed on this image."
    logged = capsys.readouterr()
    assert "ZeroDivisionError" in logged.out + logged.err
    assert str(images[0].PatientName) not in logged.out + logged.err


@pytest.mark.parametrize(("losses", "reason"), [(1, None), (2, "it was killed")])
def test_a_lost_model_is_tried_once_more(source, files: list[Path], detector, losses: int, reason: str | None) -> None:
    class Lost(type(detector)):
        left = losses

        def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
            if self.left:
                self.left -= 1
                raise ModelLostError("it was killed")
            return super().read(mammogram, threshold)

    assert read(source, files[0], Lost()).reading.reason == reason


def test_a_reading_from_before_a_crash_is_given_its_pixels_again(source, files: list[Path], detector) -> None:
    reader = ImageReader(detector, source)
    before = read(source, files[0], detector)
    after = ImageReader(BrokenDetector(), source).restore(files[0], Reading.from_json(before.reading.to_json()))
    assert isinstance(after, ReadMammogram)
    assert after.reading == before.reading
    assert (after.mammogram.pixels == before.mammogram.pixels).all()
    refused = reader.restore(files[1], Reading.not_processed(files[1].stem, "why"))
    assert isinstance(refused, ReadMammogram)
    assert refused.reading.reason == "why"
