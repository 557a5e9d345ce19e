"""A reader's assessment of a report: what it says of each finding, and what the validators say of it."""

import highdicom as hd
import pytest
from pydicom import Dataset, dcmread

from mammoscope.descriptors import Description
from mammoscope.findings import Box
from mammoscope.results import (
    AssessedFinding,
    AssessedImage,
    AssessedReport,
    Assessment,
    ResultError,
    ai_sr,
    assessment_sr,
)
from mammoscope.results.assessment import ASSESSMENT, overall_assessment
from mammoscope.results.base import writable
from mammoscope.results.verification import ai_sr_marks, concept_value, content_items

MOVED, DRAWN = Box(160, 80, 220, 140), Box(50, 50, 90, 95)


def named(document, value):
    return [item for item in content_items(document) if concept_value(item) == value]


@pytest.fixture(scope="module")
def assessed(four_views):
    """One accepted, one rejected, one moved, one that the reader adds, and one that was not shown."""
    right_cc, left_cc, right_mlo, left_mlo = four_views
    boxes = [finding.box for finding in right_cc.reading.findings]
    return [
        AssessedImage(
            right_cc,
            (
                AssessedFinding(Assessment.ACCEPTED, boxes[0], "Mass", 1),
                AssessedFinding(Assessment.REJECTED, boxes[1], "Mass", 2, Description(comment="skin fold")),
            ),
        ),
        AssessedImage(left_cc, (AssessedFinding(Assessment.SUPPLEMENTED, DRAWN, "Mass"),)),
        AssessedImage(right_mlo, (AssessedFinding(Assessment.MODIFIED, MOVED, "Mass", 1),)),
        AssessedImage(left_mlo),
    ]


@pytest.fixture(scope="module")
def report(four_views, algorithm, now):
    return ai_sr(four_views, algorithm, now=now)


@pytest.fixture(scope="module")
def document(assessed, report, algorithm, now):
    named_report = AssessedReport(report.SOPClassUID, report.SOPInstanceUID, report.SeriesInstanceUID)
    return assessment_sr(
        assessed[::-1], algorithm, named_report, verified_by="Doe Jane", organisation="Clinic", now=now
    )


def test_it_is_verified_by_a_person_and_names_the_report(document, report):
    assert (document.CompletionFlag, document.VerificationFlag, document.PreliminaryFlag) == (
        "COMPLETE", "VERIFIED", "FINAL",
    )  # fmt: skip
    assert document.VerifyingObserverSequence[0].VerifyingObserverName == "Doe Jane^"
    assert document.VerifyingObserverSequence[0].VerifyingOrganization == "Clinic"
    assert named(document, "121008")[0].PersonName == "Doe Jane^"
    assert not named(document, "121012")  # no device observed
    assert "PredecessorDocumentsSequence" not in document  # the report stands as it is
    [overall] = [item for item in named(document, ASSESSMENT.value) if "ContentSequence" in item]
    [reference] = overall.ContentSequence[0].ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == report.SOPInstanceUID
    assert overall.ConceptCodeSequence[0].CodeValue == "modified"
    [study] = document.CurrentRequestedProcedureEvidenceSequence
    evidence = {one.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for one in s.ReferencedSOPSequence}
    assert report.SOPInstanceUID in evidence
    assert document.PatientName == "Doe^Jane"


def test_another_reader_finds_each_verdict_under_the_reports_tracking_identifier(document, report, tmp_path):
    path = tmp_path / "assessment.dcm"
    document.save_as(path, enforce_file_format=True)
    read = hd.sr.Comprehensive3DSR.from_dataset(dcmread(path)).content
    groups = read.get_planar_roi_measurement_groups(graphic_type=hd.sr.GraphicTypeValues.POLYLINE)
    said = [(group.tracking_uid, group.get_qualitative_evaluations(ASSESSMENT)[0].value.value) for group in groups]
    of_report = [item.UID for item in named(report, "112040")]
    assert said[0] == (of_report[0], "accepted")
    assert said[1] == (of_report[1], "rejected")
    assert said[2][1] == "supplemented"
    assert said[2][0] not in of_report
    assert said[3] == (of_report[2], "modified")
    marks = ai_sr_marks(document)
    assert marks["2.25.10003"] == [MOVED]
    assert marks["2.25.10002"] == [DRAWN]
    assert marks["2.25.10004"] == []
    assert "skin fold" in " ".join(item.TextValue for item in named(document, "121106"))


def test_what_the_verdicts_amount_to(four_views):
    box = Box(1, 1, 9, 9)

    def of(*said: Assessment) -> Assessment:
        return overall_assessment([AssessedImage(four_views[0], tuple(AssessedFinding(s, box, "Mass") for s in said))])

    a, m, r, s = Assessment.ACCEPTED, Assessment.MODIFIED, Assessment.REJECTED, Assessment.SUPPLEMENTED
    for said, expected in (
        ((), a), ((a, a), a), ((r, r), r), ((a, r), m), ((a, m), m), ((a, s), s), ((s,), s), ((r, s), m),
    ):  # fmt: skip
        assert of(*said) is expected, said


def test_a_finding_that_the_reading_has_not_is_refused(four_views, algorithm):
    report = AssessedReport("1.2.840.10008.5.1.4.1.1.88.34", "2.25.1", "2.25.2")
    wrong = AssessedImage(four_views[0], (AssessedFinding(Assessment.ACCEPTED, Box(1, 1, 9, 9), "Mass", 9),))
    with pytest.raises(ResultError, match="has no finding 9"):
        assessment_sr([wrong], algorithm, report, verified_by="x")


@pytest.mark.validators
def test_the_validators_find_no_error(document, dciodvfy_errors, dsrdump_errors, pixelmed_errors, tmp_path):
    path = tmp_path / "assessment.dcm"
    document.save_as(path, enforce_file_format=True)
    assert dciodvfy_errors(path) == []
    assert dsrdump_errors(path) == []
    assert pixelmed_errors(path, "TID_1500") == []


@pytest.mark.parametrize(
    ("character_set", "written"),
    [("ISO_IR 192", "näh ☃/"), ("ISO_IR 100", "näh ?/"), (None, "n?h ?/")],
)
def test_a_comment_keeps_the_letters_that_the_object_has(character_set: str | None, written: str):
    header = Dataset()
    if character_set:
        header.SpecificCharacterSet = character_set
    assert writable("näh ☃\\", header) == written
