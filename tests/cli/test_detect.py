import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, MammographyCADSRStorage, SecondaryCaptureImageStorage

from mammoscope.cli.detect import Run, by_study, free_name
from mammoscope.findings import Algorithm, Reading, ReadingStatus
from mammoscope.imaging import Mammogram, MammogramReader, PresentationIntent
from mammoscope.phantom import screening_study


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies, two pictures of the same name, one file that is no mammogram."""
    folder = tmp_path_factory.mktemp("mixed")
    for seed in (1, 2):
        screening_study(seed, masses=1, rows=400, columns=300).save(folder / f"study{seed}")
    for name in ("left", "right"):
        (folder / name).mkdir()
        view = dcmread(folder / "study1" / "R_CC.dcm")
        grey = (view.pixel_array / view.pixel_array.max() * 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / name / "cc.png")
    (folder / "broken.dcm").write_bytes((folder / "study1" / "R_CC.dcm").read_bytes()[:3000])
    return folder


def run_detect(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=120)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mammoscope", "detect", *map(str, arguments)]


def test_one_unreadable_file_stops_none_of_the_others(mixed: Path, tmp_path: Path):
    done = run_detect(mixed, "--out", tmp_path, "--threshold", "0.05", "--threads", 1)

    assert done.returncode == 1, done.stderr
    assert "broken.dcm" in done.stderr
    entries = json.loads((tmp_path / "readings.json").read_text())
    assert len(entries) == 11
    readings = {entry["file"]: Reading.from_json(entry) for entry in entries}
    bad = readings.pop(str(mixed / "broken.dcm"))
    assert bad.status is ReadingStatus.NOT_PROCESSED
    assert bad.reason in " ".join(done.stderr.split())
    assert all(reading.status is not ReadingStatus.NOT_PROCESSED for reading in readings.values())
    assert {reading.threshold for reading in readings.values()} == {0.05}

    pictures = {entry["picture"] for entry in entries if entry["picture"]}
    assert len(pictures) == 10
    assert {f"pictures/{name}.png" for name in ("cc", "cc-2", "R_CC", "R_CC-2")} <= pictures
    assert all((tmp_path / picture).is_file() for picture in pictures)

    for seed in (1, 2):
        study = dcmread(mixed / f"study{seed}" / "L_CC.dcm").StudyInstanceUID
        results = [dcmread(path) for path in (tmp_path / "objects" / study).iterdir()]
        assert [result.Modality for result in results].count("SR") == 2  # CAD report and AI report
        assert {result.StudyInstanceUID for result in results} == {study}
    assert len(list((tmp_path / "objects").iterdir())) == 2


def test_all_read_is_exit_code_0_and_a_second_run_does_not_read_the_first_ones_pictures(mixed: Path, tmp_path: Path):
    source = tmp_path / "cc.png"
    source.write_bytes((mixed / "left" / "cc.png").read_bytes())

    codes = [run_detect(tmp_path, "--out", tmp_path, *more).returncode for more in ((), ("--force",))]

    assert codes == [0, 0]
    assert [entry["file"] for entry in json.loads((tmp_path / "readings.json").read_text())] == [str(source)]
    assert not (tmp_path / "objects").exists()


def test_nothing_readable_is_exit_code_1(mixed: Path, tmp_path: Path):
    done = run_detect(mixed / "broken.dcm", "--out", tmp_path, "--json")

    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["files"], told["not processed"], told["findings"]) == (1, 1, 0)
    assert [entry["status"] for entry in json.loads((tmp_path / "readings.json").read_text())] == ["not processed"]


def test_no_such_path_is_exit_code_2_and_one_sentence(tmp_path: Path):
    done = run_detect(tmp_path / "missing", "--out", tmp_path / "out")

    assert done.returncode == 2
    assert "missing" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_made_is_exit_code_2(mixed: Path, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")

    done = run_detect(mixed / "left", "--out", tmp_path / "file")

    assert done.returncode == 2
    assert "--out" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupted_it_keeps_what_it_has(mixed: Path, tmp_path: Path):
    for number in range(300):
        (tmp_path / f"{number:03}.png").symlink_to(mixed / "left" / "cc.png")
    out = tmp_path / "out"
    running = subprocess.Popen(
        command(tmp_path, "--out", out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    # The second picture is begun only when the first one's reading is kept.
    while len(list(out.glob("pictures/*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)

    assert running.returncode == 130, stderr
    entries = json.loads((out / "readings.json").read_text())
    assert 0 < len(entries) < 300
    assert f"{len(entries)} of 300" in stdout


def test_studies_stay_together_in_the_order_of_their_first_file(mixed: Path):
    files = [
        mixed / "study1" / "R_CC.dcm",
        mixed / "left" / "cc.png",
        mixed / "study2" / "L_CC.dcm",
        mixed / "right" / "cc.png",
        mixed / "study1" / "L_CC.dcm",
    ]

    with MammogramReader() as reader:
        groups = by_study(files, reader)

    assert groups == [[files[0], files[4]], [files[1]], [files[2]], [files[3]]]


def without_preamble(source: Path, target: Path) -> Path:
    data = dcmread(source)
    del data.file_meta
    data.save_as(target, implicit_vr=False, little_endian=True)
    return target


def test_files_of_one_study_stay_together_without_a_preamble_or_deflated(study: Path):
    plain = without_preamble(study / "L_CC.dcm", study / "plain.dcm")
    deflated = dcmread(study / "R_CC.dcm")
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated.save_as(study / "deflated.dcm")
    os.mkfifo(study / "pipe.dcm")
    files = [plain, study / "R_MLO.dcm", study / "deflated.dcm"]

    with MammogramReader() as reader:
        assert by_study([*files, study / "pipe.dcm"], reader) == [files, [study / "pipe.dcm"]]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    screening_study(1, masses=1, rows=400, columns=300).save(folder)
    return folder


def objects_of(out: Path) -> dict[str, list[Dataset]]:
    by_modality: dict[str, list[Dataset]] = {}
    for path in sorted((out / "objects").glob("*/*.dcm")):
        by_modality.setdefault((data := dcmread(path)).Modality, []).append(data)
    return by_modality


def images_in(report: Dataset) -> set[str]:
    content = (element for item in report.ContentSequence for element in item.iterall())
    return {element.value for element in content if element.keyword == "ReferencedSOPInstanceUID"}


def code_meanings(report: Dataset) -> set[str]:
    return {element.value for element in report.iterall() if element.keyword == "CodeMeaning"}


def test_an_image_that_cannot_be_read_is_in_its_studys_report(study: Path, tmp_path: Path):
    cut = study / "L_CC.dcm"
    uids = {dcmread(path).SOPInstanceUID for path in study.glob("*.dcm")}
    cut.write_bytes(cut.read_bytes()[:-50_000])

    done = run_detect(study, "--out", tmp_path / "out", "--threads", 1)

    assert done.returncode == 1, done.stderr
    reports = objects_of(tmp_path / "out")["SR"]
    assert [images_in(report) for report in reports] == [uids, uids]
    [report] = [report for report in reports if report.SOPClassUID == MammographyCADSRStorage]
    assert "Partially Succeeded" in code_meanings(report)


def test_an_odd_header_costs_nothing_and_quotes_nothing(study: Path, tmp_path: Path):
    odd = dcmread(study / "L_CC.dcm")
    odd.PatientName = "Secret^Name"
    odd.add_new("ImagerPixelSpacing", "DS", "0.07")
    odd.save_as(study / "L_CC.dcm")

    done = run_detect(study, "--out", tmp_path / "out", "--threads", 1)

    assert "Traceback" not in done.stderr
    assert "Secret" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert [len(images_in(report)) for report in objects_of(tmp_path / "out")["SR"]] == [4, 4]
    assert len(json.loads((tmp_path / "out" / "readings.json").read_text())) == 4


def test_a_detector_that_stumbles_ends_nothing(study: Path, tmp_path: Path):
    class Stumbling:
        algorithm = Algorithm("stumbling", "1")
        preprocessing = None

        def read(self, mammogram: Mammogram, _: float | None = None) -> Reading:
            if mammogram.name == "L_CC.dcm":
                raise IndexError("Secret^Name")
            return Reading(mammogram.name, ReadingStatus.NOTHING_FOUND, rows=400, columns=300, threshold=0.5)

    (tmp_path / "pictures").mkdir()
    run = Run(tmp_path, Stumbling(), None, tuple(PresentationIntent))

    assert not run.read_all(sorted(study.glob("*.dcm")))

    ((what, sentence),) = run.problems
    assert what == str(study / "L_CC.dcm")
    assert sentence == "The detector failed on this image."
    assert len(images_in(objects_of(tmp_path)["SR"][0])) == 4


def test_a_copied_file_is_named_and_costs_no_result_objects(study: Path, tmp_path: Path):
    (study / "L_CC_copy.dcm").write_bytes((study / "L_CC.dcm").read_bytes())

    done = run_detect(study, "--out", tmp_path / "out", "--threads", 1)

    assert done.returncode == 1, done.stderr
    assert "L_CC_copy.dcm: not in the result objects" in done.stderr
    assert len(json.loads((tmp_path / "out" / "readings.json").read_text())) == 5
    assert [len(images_in(report)) for report in objects_of(tmp_path / "out")["SR"]] == [4, 4]


def test_file_names_that_are_no_utf_8(mixed: Path, tmp_path: Path):
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe4.png"))
    strange.write_bytes((mixed / "left" / "cc.png").read_bytes())
    broken = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe.dcm"))
    broken.write_bytes(b"no image")

    done = run_detect(strange, broken, "--out", tmp_path / "out", "--threads", 1)

    assert done.returncode == 1, done.stderr
    assert "files" in done.stdout
    assert "\\udcfe.dcm" in done.stderr
    first, second = json.loads((tmp_path / "out" / "readings.json").read_text(encoding="utf-8"))
    assert (Path(first["file"]), Path(second["file"])) == (strange, broken)
    assert (tmp_path / "out" / first["picture"]).is_file()


def test_a_name_is_numbered_until_it_is_free():
    taken: set[str] = set()

    assert [free_name(stem, taken) for stem in ("cc", "cc-2", "CC", "cc", "mlo")] == [
        "cc",
        "cc-2",
        "CC-3",
        "cc-4",
        "mlo",
    ]


def change(file: Path, **attributes: object) -> None:
    dataset = dcmread(file)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(file)


def test_what_the_node_does_not_read_detect_does_not_either(study: Path, tmp_path: Path):
    change(study / "L_CC.dcm", BreastImplantPresent="YES")
    change(study / "R_CC.dcm", ImageType=["DERIVED", "PRIMARY", "", "RECOMBINED"])
    packed = dcmread(study / "L_MLO.dcm")
    packed.SOPClassUID = packed.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    del packed.PixelData
    packed.add_new(0x7E010010, "LO", "HOLOGIC, Inc.")
    packed.add_new(0x7E011010, "OB", bytes(300_000))
    packed.save_as(study / "L_MLO.dcm")

    done = run_detect(study, "--out", tmp_path / "out", "--threads", 1)

    assert done.returncode == 1, done.stderr
    entries = json.loads((tmp_path / "out" / "readings.json").read_text())
    assert {Path(entry["file"]).name: entry["reason"] for entry in entries} == {
        "L_CC.dcm": "The breast has an implant that is not displaced.",
        "R_CC.dcm": "The image is of a contrast-enhanced examination and shows no plain mammogram.",
        "L_MLO.dcm": "The image is part of a tomosynthesis, which this model does not read.",
        "R_MLO.dcm": None,
    }
    assert len(images_in(objects_of(tmp_path / "out")["SR"][0])) >= 3


def test_leading_zeros_in_uids_cost_no_results_and_no_noise(study: Path, tmp_path: Path):
    for number, file in enumerate(sorted(study.glob("*.dcm"))):
        dataset = dcmread(file)
        dataset.StudyInstanceUID = "1.2.840.012345.1"
        dataset.SeriesInstanceUID = "1.2.840.012345.02"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.840.012345.3.0{number}"
        dataset.save_as(file)

    done = run_detect(study, "--out", tmp_path / "out", "--threads", 1)

    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert {"SR", "OT"} <= objects_of(tmp_path / "out").keys()
