import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import dcmread

from mammoscope.datasets import DatasetError, load_dataset, open_index, set_review, split_dataset
from mammoscope.datasets.retrieve import PULLED, Query, find_wanted, open_pull_log, pull_studies
from mammoscope.datasets.review_log import ReviewState
from mammoscope.errors import MammoscopeError
from mammoscope.phantom import screening_study


@dataclass
class Shelf:
    """An archive in a folder: files by study, with accession numbers."""

    files: dict[str, list[Path]]
    accessions: dict[str, str]
    heeds_accession: bool = True
    not_sent: dict[str, int] = field(default_factory=dict)
    trouble: dict[str, Exception] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    on_object: Callable[[], None] = lambda: None

    def find(self, where, since: date | None, until: date | None):  # noqa: ARG002
        wanted = where.get("AccessionNumber")
        return [
            SimpleNamespace(study_instance_uid=study, accession=self.accessions[study])
            for study in self.files
            if wanted is None or not self.heeds_accession or self.accessions[study] == wanted
        ]

    def fetch(self, study, receive, folder: Path):
        self.fetched.append(study)
        folder.mkdir(parents=True, exist_ok=True)
        completed = 0
        for file in self.files[study]:
            header = dcmread(file, stop_before_pixels=True)
            arriving = folder / "object"
            arriving.write_bytes(file.read_bytes())
            receive(
                SimpleNamespace(
                    path=arriving,
                    sop_instance_uid=str(header.SOPInstanceUID),
                    study_instance_uid=str(header.StudyInstanceUID),
                    modality=str(header.Modality),
                )
            )
            arriving.unlink(missing_ok=True)
            completed += 1
            self.on_object()
            if study in self.trouble:
                raise self.trouble[study]
        failed = self.not_sent.get(study, 0)
        return SimpleNamespace(completed=completed, failed=failed)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Three studies of two patients; the first two are of one."""
    folder = tmp_path_factory.mktemp("shelf")
    found = {}
    for seed, patient in ((1, "ID-7"), (2, "ID-7"), (3, "ID-8")):
        screening_study(seed, masses=1, rows=160, columns=128).save(folder / str(seed))
        files = sorted((folder / str(seed)).glob("*.dcm"))[:2]
        for file in files:
            header = dcmread(file)
            header.PatientID = patient
            header.save_as(file)
        found[str(dcmread(files[0]).StudyInstanceUID)] = files
    return found


@pytest.fixture
def shelf(studies: dict[str, list[Path]]) -> Shelf:
    return Shelf(dict(studies), dict(zip(studies, ("A1", "A2", "A2"), strict=True)))


def test_accession_numbers_find_each_study_once_and_say_what_is_not_there(shelf: Shelf):
    first, second, third = shelf.files
    wanted = find_wanted(shelf, Query(("A2", "A9", "A1")))
    assert wanted.studies == (second, third, first)
    assert wanted.not_found == ("A9",)


def test_an_archive_that_answers_with_all_it_has_is_not_emptied(shelf: Shelf):
    shelf.heeds_accession = False
    wanted = find_wanted(shelf, Query(("A1", "A9")))
    assert wanted.studies == (next(iter(shelf.files)),)
    assert wanted.not_found == ("A9",)


def test_studies_become_an_unannotated_data_set(shelf: Shelf, studies, tmp_path: Path):
    out = tmp_path / "set"
    pulled = pull_studies(shelf, list(studies), out)
    assert (pulled.studies, pulled.images, pulled.failed) == (3, 6, ())

    dataset = load_dataset(out)
    assert len(dataset) == 6
    assert {image.review for image in dataset} == {ReviewState.UNANNOTATED}
    assert len(dataset.patients) == 2
    by_uid = {str(dcmread(file).SOPInstanceUID): file for files in studies.values() for file in files}
    for image in dataset:
        patient, study, name = image.path.relative_to(out / "images").parts
        original = by_uid[name.removesuffix(".dcm")]
        assert image.path.read_bytes() == original.read_bytes()
        assert patient == image.patient
        assert original in studies[study]
    table = open_index(out).table.to_pydict()
    assert set(table["review"]) == {"unannotated"}
    assert set(table["study"]) == set(studies)
    assert not any("ID-" in file.read_text() for file in (out / "annotations.json", out / PULLED))
    assert (out / PULLED).stat().st_mode & 0o777 == 0o600
    assert {path.name for path in out.iterdir()} == {"annotations.json", "images", "images.parquet", PULLED}


def test_a_broken_pull_goes_on_where_it_stopped(shelf: Shelf, studies, tmp_path: Path):
    first, second, third = studies
    shelf.trouble[second] = MammoscopeError("it broke off")
    out = tmp_path / "set"
    pulled = pull_studies(shelf, list(studies), out)
    assert pulled.failed == ((second, "it broke off"),)
    assert {image.facts["study_id"] for image in load_dataset(out)} == {first, third}  # nothing of half a study

    ids = {image.path: image.id for image in load_dataset(out)}
    validated = next(iter(ids))
    set_review(out, [str(validated.relative_to(out / "images"))], ReviewState.VALIDATED, by="Dr A")
    shelf.trouble.clear()
    again = pull_studies(shelf, list(studies), out)
    assert shelf.fetched == [first, second, third, second]
    assert (again.studies, again.known) == (1, 2)
    dataset = load_dataset(out)
    assert len(dataset) == 6
    assert {path: image_id for path, image_id in ((i.path, i.id) for i in dataset) if path in ids} == ids
    assert {i.path: i.review for i in dataset}[validated] is ReviewState.VALIDATED
    assert len({image.patient for image in dataset}) == 2  # the pseudonyms are the same in the second run


def test_interrupted_it_keeps_whole_studies(shelf: Shelf, studies, tmp_path: Path):
    seen: list[int] = []

    def interrupt() -> None:
        seen.append(1)
        if len(seen) == 3:  # the first image of the second study
            raise KeyboardInterrupt

    shelf.on_object = interrupt
    with pytest.raises(KeyboardInterrupt):
        pull_studies(shelf, list(studies), tmp_path / "set")
    assert {image.facts["study_id"] for image in load_dataset(tmp_path / "set")} == {next(iter(studies))}


def test_an_archive_that_is_gone_is_not_asked_for_every_study(shelf: Shelf, tmp_path: Path):
    (files,) = list(shelf.files.values())[:1]
    shelf.files = {f"1.{number}": files for number in range(6)}
    shelf.trouble = {study: MammoscopeError("gone") for study in shelf.files}
    pulled = pull_studies(shelf, list(shelf.files), tmp_path / "set")
    assert len(pulled.failed) == 3
    assert pulled.untried == 3
    assert not (tmp_path / "set" / "annotations.json").exists()


def test_reports_and_what_the_archive_keeps_back_are_counted(shelf: Shelf, studies, tmp_path: Path):
    study, files = next(iter(studies.items()))
    report = dcmread(files[0])
    report.Modality, report.SOPInstanceUID = "SR", "1.2.3"
    report.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    report.save_as(tmp_path / "report.dcm")
    shelf.files[study] = [*files, tmp_path / "report.dcm"]
    shelf.not_sent[study] = 4
    pulled = pull_studies(shelf, [study], tmp_path / "set")
    assert (pulled.images, pulled.others, pulled.not_sent) == (2, 1, 4)


def test_a_study_of_which_nothing_came_is_tried_again(shelf: Shelf, studies, tmp_path: Path):
    study = next(iter(studies))
    files, shelf.files[study] = shelf.files[study], []
    shelf.not_sent[study] = 2
    assert pull_studies(shelf, [study], tmp_path / "set").failed[0][0] == study
    shelf.files[study], shelf.not_sent = files, {}
    assert pull_studies(shelf, [study], tmp_path / "set").images == 2


def test_a_study_without_patient_is_a_patient_of_its_own(shelf: Shelf, studies, tmp_path: Path):
    for study, files in studies.items():
        shelf.files[study] = []
        for number, file in enumerate(files):
            header = dcmread(file)
            header.PatientID = ""
            header.save_as(tmp_path / f"{study}-{number}.dcm")
            shelf.files[study].append(tmp_path / f"{study}-{number}.dcm")
    pull_studies(shelf, list(studies), tmp_path / "set")
    assert len(load_dataset(tmp_path / "set").patients) == 3


def test_a_split_set_does_not_grow(shelf: Shelf, studies, tmp_path: Path):
    first, *others = studies
    out = tmp_path / "set"
    pull_studies(shelf, [first, others[-1]], out)
    split_dataset(out, val=0.5, test=0.0, seed=1)
    with pytest.raises(DatasetError, match=r"has been split \(splits.json\), and 1 studies would be new"):
        pull_studies(shelf, list(studies), out)
    assert pull_studies(shelf, [first], out).known == 1
    assert len(load_dataset(out)) == 4


def test_a_folder_of_something_else_is_left_alone(shelf: Shelf, studies, tmp_path: Path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DatasetError, match="was not made by a pull"):
        pull_studies(shelf, list(studies), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert shelf.fetched == []


def test_two_pulls_into_one_folder_do_not_meet(shelf: Shelf, studies, tmp_path: Path):
    with open_pull_log(tmp_path), pytest.raises(DatasetError, match="another pull"):
        pull_studies(shelf, list(studies), tmp_path)


def test_a_line_cut_short_costs_that_study_only(tmp_path: Path):
    with open_pull_log(tmp_path) as log:
        log.note_study("1.2", 4)
        name = log.pseudonym("ID-7")
    with (tmp_path / PULLED).open("ab") as file:
        file.write(b'{"study": "1.3", "im\xff')
    with open_pull_log(tmp_path) as log:
        log.note_study("1.4", 4)
        assert log.pseudonym("ID-7") == name
    with open_pull_log(tmp_path) as log:
        assert log.studies == {"1.2", "1.4"}
    assert json.loads((tmp_path / PULLED).read_text(errors="replace").splitlines()[-1]) == {"study": "1.4", "images": 4}
