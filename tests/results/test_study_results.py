"""All objects of a study: identity, determinism, the last look."""

import copy
import errno
import logging
import sys
from datetime import timedelta
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ComputedRadiographyImageStorage

from mammoscope import results
from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Mammogram
from mammoscope.results import ReadMammogram, ResultError, study_results, verify_against_reading
from mammoscope.results.study import hanging_number
from mammoscope.results.verification import content_items
from mammoscope.settings import ResultKind

FEW = (ResultKind.CAD_SR, ResultKind.PRESENTATION_STATE, ResultKind.SHEET)
result_objects = partial(results.result_objects, kinds=FEW)


def written(dataset):
    with BytesIO() as buffer:
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()


def reread(dataset):
    return dcmread(BytesIO(written(dataset)))


def test_what_a_study_gets_where_nothing_is_known_of_its_viewers(four_views, algorithm):
    made = results.result_objects(four_views, algorithm)
    assert [(dataset.Modality, dataset.SeriesNumber) for dataset in made] == [
        ("SR", 9001), ("SR", 9005), ("PR", 9002), ("PR", 9002), ("PR", 9002), ("OT", 9006),
    ]  # fmt: skip


def test_what_a_study_gets(four_views, algorithm, now):
    made = result_objects(four_views, algorithm, now=now)
    assert [dataset.Modality for dataset in made] == ["SR", "PR", "PR", "PR", "OT"]
    assert [dataset.SeriesNumber for dataset in made] == [9001, 9002, 9002, 9002, 9003]
    assert [dataset.InstanceNumber for dataset in made] == [1, 1, 3, 4, 1]  # R CC, R MLO and L MLO have findings
    assert len({dataset.SOPInstanceUID for dataset in made}) == 5
    assert len({dataset.SeriesInstanceUID for dataset in made}) == 3
    for dataset in made:
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.SOPInstanceUID.is_valid
        assert len(dataset.SeriesDescription) <= 64
        assert "research use only" in dataset.SeriesDescription
        assert list(dataset.SoftwareVersions)[1] == "mammoscope-test 1.2.0"


def test_no_two_identifiers_are_equal(four_views, algorithm):
    made = result_objects(four_views, algorithm)
    sources = {image.sop_instance_uid for image in four_views}
    identifiers = [dataset.SOPInstanceUID for dataset in made]
    identifiers += {dataset.SeriesInstanceUID for dataset in made}
    identifiers += [item.UID for item in content_items(made[0]) if "UID" in item]
    assert len(identifiers) == len(set(identifiers)) == 5 + 3 + 4
    assert not sources & set(identifiers)


def test_made_twice_they_are_the_same_bytes(four_views, algorithm, now):
    first = result_objects(four_views, algorithm, now=now)
    again = result_objects(four_views[::-1], algorithm, now=now)
    assert [written(a) == written(b) for a, b in zip(first, again, strict=True)] == [True] * 5


def uids(images, algorithm):
    return [dataset.SOPInstanceUID for dataset in result_objects(images, algorithm)]


def test_another_version_or_finding_gives_other_identifiers(four_views, make_image, algorithm):
    base = uids(four_views, algorithm)
    newer = uids(four_views, Algorithm(algorithm.name, "1.2.1"))
    moved = uids([make_image("R", "CC", 1, [((180.25, 120.5, 240.75, 170.01), 0.93)]), *four_views[1:]], algorithm)
    assert not set(base) & set(newer)
    assert set(base) & set(moved) == set(base[2:4])  # the marks on the two MLO images are as before


def test_nothing_found_still_gives_a_report_and_a_sheet(make_image, algorithm):
    assert [dataset.Modality for dataset in result_objects([make_image()], algorithm)] == ["SR", "OT"]


def test_images_without_pixels_are_in_the_results(make_image, algorithm):
    header = copy.deepcopy(make_image("L", "CC", 2).header)
    lost = ReadMammogram.not_processed(header, "The pixels could not be decoded.")
    assert lost.mammogram.name == "2.25.10002"
    report, sheet = result_objects([make_image(), lost], algorithm)
    assert report.ContentSequence[2].ConceptCodeSequence[0].CodeValue == "111243"
    assert len(sheet.SourceImageSequence) == 2


def test_an_image_that_the_report_may_not_name_is_in_the_sheet(make_image, algorithm):
    other = make_image("L", number=2, SOPClassUID=ComputedRadiographyImageStorage)
    report, sheet = result_objects([make_image(), other], algorithm)
    assert len(report.ContentSequence[1].ContentSequence) == 1
    assert len(sheet.SourceImageSequence) == 2
    assert [dataset.Modality for dataset in result_objects([other], algorithm)] == ["OT"]


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 148", "Şahin^Gülşen"),
        ("ISO_IR 127", "قباني^لنزار"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
        ("ISO_IR 100", "Müller^Käthe"),
    ],
)
def test_a_name_arrives_byte_for_byte(make_image, algorithm, character_set, name):
    sent = make_image(findings=[((1, 1, 9, 9), 0.5)], SpecificCharacterSet=character_set, PatientName=name)
    received = reread_header(sent)
    for dataset in result_objects([received], algorithm):
        arrived = reread(dataset)
        assert arrived.SpecificCharacterSet == character_set
        assert arrived.get_item("PatientName").value == reread_raw(sent)
        assert str(arrived.PatientName) == name


def file_of(image):
    header = copy.deepcopy(image.header)
    buffer = BytesIO()
    header.save_as(buffer, implicit_vr=False, little_endian=True)
    buffer.seek(0)
    return dcmread(buffer, force=True)


def reread_header(image):
    """The image as a reader of files gets it, its values not yet decoded."""
    received = Mammogram(image.mammogram.pixels, image.mammogram.name, header=file_of(image))
    return ReadMammogram(received, image.reading)


def reread_raw(image):
    return file_of(image).get_item("PatientName").value


def test_a_corrected_spelling_does_not_split_a_study(make_image, algorithm):
    images = [make_image(), make_image("L", number=2, PatientName="Doe^Janet", AccessionNumber="")]
    made = result_objects(images[::-1], algorithm)
    for dataset in made:
        assert (str(dataset.PatientName), dataset.AccessionNumber) == ("Doe^Jane", "A-1")
        verify_against_reading(dataset, images[::-1])


def test_patient_study_and_accession_are_copied(make_image, algorithm):
    image = make_image(
        findings=[((1, 1, 9, 9), 0.5)],
        PatientSex="X",  # not a value of the standard: copied all the same
        PatientBirthDate="",
        StudyID=None,
        IssuerOfPatientID="HOSPITAL",
        StudyDescription="Screening",
    )
    for dataset in result_objects([image], algorithm):
        assert (dataset.PatientID, dataset.PatientSex, dataset.IssuerOfPatientID) == ("P-1", "X", "HOSPITAL")
        assert (dataset.StudyInstanceUID, dataset.AccessionNumber, dataset.StudyDate) == ("2.25.10", "A-1", "20260102")
        assert dataset.StudyDescription == "Screening"
        assert "StudyID" in dataset
        assert not dataset.StudyID
        assert not dataset.PatientBirthDate


def test_no_patient_data_in_log_or_warning(make_image, algorithm, caplog, recwarn):
    image = make_image(findings=[((1, 1, 9, 9), 0.5)], PatientName="Secret", PatientSex="odd")
    with caplog.at_level(logging.DEBUG):
        result_objects([image], algorithm)
    assert "Secret" not in caplog.text
    assert not [warning for warning in recwarn if "Secret" in str(warning.message)]


def test_what_cannot_be_a_study(make_image, algorithm):
    first = make_image()
    with pytest.raises(ResultError, match="no mammogram"):
        result_objects([], algorithm)
    with pytest.raises(ResultError, match="twice"):
        result_objects([first, first], algorithm)
    with pytest.raises(ResultError, match="image-1 and image-2 differ in StudyInstanceUID"):
        result_objects([first, make_image(number=2, StudyInstanceUID="2.25.11")], algorithm)
    with pytest.raises(ResultError, match="differ in PatientID") as raised:
        result_objects([first, make_image(number=2, PatientID="P-2")], algorithm)
    assert "P-2" not in str(raised.value)
    with pytest.raises(ResultError, match="image-1 lacks SeriesInstanceUID"):
        result_objects([make_image(SeriesInstanceUID=None)], algorithm)
    picture = Mammogram(np.zeros((4, 3), np.uint16), "scan.png")
    with pytest.raises(ResultError, match=r"scan\.png is a picture file"):
        result_objects([ReadMammogram(picture, Reading("scan.png", ReadingStatus.NOTHING_FOUND))], algorithm)


def test_a_reading_of_another_image_is_refused(make_image):
    image = make_image()
    with pytest.raises(ResultError, match="400 rows and 300 columns but its reading is of an image of 300 rows"):
        ReadMammogram(image.mammogram, Reading("x", ReadingStatus.NOTHING_FOUND, rows=300, columns=400))
    with pytest.raises(ResultError, match="header says 200 and 300"):
        make_image(Rows=200)


def test_an_object_that_cannot_be_made_does_not_stop_the_others(make_image, algorithm):
    bad = make_image("L", number=2, findings=[((500, 500, 600, 600), 0.5)])
    made = study_results([make_image(findings=[((1, 1, 9, 9), 0.5)]), bad], algorithm, kinds=FEW)
    assert [dataset.Modality for dataset in made.objects] == ["SR", "PR", "OT"]
    assert len(made.objects[0].ContentSequence[1].ContentSequence) == 1
    assert all("Finding 1 of image-2 lies outside" in problem for problem in made.problems)
    assert len(made.problems) == 3
    plain = result_objects([make_image(findings=[((1, 1, 9, 9), 0.5)]), make_image("L", number=2)], algorithm)[-1]
    assert made.objects[-1].PixelData != plain.PixelData


@pytest.mark.parametrize("trouble", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_trouble_of_the_machine_leaves_out_no_object(make_image, algorithm, monkeypatch, trouble):
    def away(*_, **__):
        raise trouble

    monkeypatch.setattr(sys.modules["mammoscope.results.study_results"], "mammography_cad_sr", away)
    with pytest.raises(type(trouble)):
        study_results([make_image(findings=[((1, 1, 9, 9), 0.5)])], algorithm, kinds=FEW)


def test_the_last_look_sees_a_mark_out_of_place(four_views, algorithm):
    report, state, *_ = result_objects(four_views, algorithm)
    (outline,) = [item for item in content_items(report) if item.get("GraphicType") == "POLYLINE"][:1]
    outline.GraphicData = [value + 0.6 for value in outline.GraphicData]
    with pytest.raises(ResultError, match="not where the reading has it"):
        verify_against_reading(report, four_views)
    graphics = state.GraphicAnnotationSequence[0].GraphicObjectSequence
    graphics[0].GraphicData = [value - 0.6 for value in graphics[0].GraphicData]
    with pytest.raises(ResultError, match="not where the reading has it"):
        verify_against_reading(state, four_views[:1])


def test_the_last_look_sees_a_missing_mark_and_a_wrong_patient(four_views, algorithm, make_image):
    report, state, *_, sheet = result_objects(four_views, algorithm)
    fewer = [make_image("R", "CC", 1, [((180.25, 120.5, 240.75, 170.0), 0.93)]), *four_views[1:]]
    with pytest.raises(ResultError, match=r"has 2 marks on 2\.25\.10001, the reading 1"):
        verify_against_reading(report, fewer)
    with pytest.raises(ResultError, match="does not refer to the mammograms"):
        verify_against_reading(state, four_views[1:2])
    with pytest.raises(ResultError, match="does not refer to the mammograms"):
        verify_against_reading(sheet, four_views[:2])
    sheet.PatientID = "someone else"
    with pytest.raises(ResultError, match="does not have its mammogram's PatientID"):
        verify_against_reading(sheet, four_views)


def test_a_reference_to_nowhere_is_seen(four_views, algorithm):
    report, *_ = result_objects(four_views, algorithm)
    (outline,) = [item for item in content_items(report) if item.get("GraphicType") == "POLYLINE"][:1]
    outline.ContentSequence[0].ReferencedContentItemIdentifier = [1, 2, 99]
    with pytest.raises(ResultError, match=r"leads nowhere: 1\.2\.99"):
        verify_against_reading(report, four_views)


def test_findings_of_equal_place_are_told_apart(make_image, algorithm):
    same = Finding(Box(10, 10, 20, 20), 0.5)
    image = make_image()
    twice = ReadMammogram(image.mammogram, Reading("x", ReadingStatus.FOUND, (same, same)))
    report, *_ = result_objects([twice], algorithm)
    tracked = [item.UID for item in content_items(report) if "UID" in item]
    assert len(tracked) == len(set(tracked)) == 2


def test_series_of_two_models_are_told_apart_in_a_list(four_views):
    first, second = (
        result_objects(four_views, Algorithm(name, version))
        for name, version in (("mammoscope-mass-on-cbis-ddsm", "0.1.0+701a4472"), ("other", "2026.11"))
    )
    for one, other in zip(first, second, strict=True):
        assert one.SeriesInstanceUID != other.SeriesInstanceUID
        assert one.SeriesDescription != other.SeriesDescription
        assert "0.1.0+701a4472" in one.SeriesDescription
        assert "other 2026.11" in other.SeriesDescription
        assert max(len(one.SeriesDescription), len(other.SeriesDescription)) <= 64


@pytest.mark.parametrize("version", ["9" * 23, "9" * 40, "9" * 80])
def test_a_long_version_is_cut_only_where_it_must_be(four_views, version):
    for dataset in result_objects(four_views, Algorithm("model", version)):
        assert len(dataset.SeriesDescription) <= 64
        assert dataset.SeriesDescription.endswith("999")


def test_all_objects_of_a_series_say_the_same_of_it(four_views, algorithm, now):
    """Also those that are made when a view comes late, on another day."""
    before = study_results(four_views[:3], algorithm, now=now)
    later = study_results(four_views, algorithm, now=now + timedelta(days=2), supersedes=before.references)
    other = study_results(
        four_views, Algorithm("other", "1"), now=now + timedelta(days=2), supersedes=before.references
    )
    assert {dataset.SeriesDate for dataset in (*before.objects, *later.objects)} == {"20260103"}
    assert {dataset.ContentDate for dataset in later.objects if "ContentDate" in dataset} == {"20260105"}
    assert {dataset.SeriesDate for dataset in other.objects} == {"20260105"}


def test_an_image_that_was_not_processed_keeps_side_and_view(make_image):
    header = make_image("L", "MLO").header
    lost = ReadMammogram.not_processed(header, "The pixels could not be decoded.")
    assert (lost.laterality, lost.view) == ("L", "MLO")
    assert (lost.reading.laterality, lost.reading.view) == ("L", "MLO")
    assert hanging_number(lost) == 4
