"""The AI report by TID 1500: what it says of each image, and what the validators say of it."""

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage

from mammoscope.findings import Box, Finding, Reading, ReadingStatus
from mammoscope.results import ReadMammogram, ResultError, ai_sr, ai_sr_obstacle, concepts, mammography_cad_sr
from mammoscope.results.verification import ai_sr_marks, concept_value, content_items


def named(document, value):
    return [item for item in content_items(document) if concept_value(item) == value]


def value_of(item):
    return item.ConceptCodeSequence[0].CodeValue


@pytest.fixture(scope="module")
def report(four_views, algorithm, now):
    return ai_sr(four_views, algorithm, now=now)


def test_the_document(report):
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert (report.Modality, report.SeriesNumber, report.InstanceNumber) == ("SR", 9005, 1)
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert [concept_value(item) for item in report.ContentSequence][-4:] == ["121058", "111028", "126010", "C0034375"]
    [study] = report.CurrentRequestedProcedureEvidenceSequence
    assert sum(len(series.ReferencedSOPSequence) for series in study.ReferencedSeriesSequence) == 4


def test_regions_read_back_are_the_boxes_of_the_reading(report):
    assert ai_sr_marks(report) == {
        "2.25.10001": [Box(180.25, 120.5, 240.75, 170.0), Box(200, 220, 230, 260)],
        "2.25.10002": [],
        "2.25.10003": [Box(170, 90, 225, 150)],
        "2.25.10004": [Box(0, 380, 40, 400)],
    }
    for region in named(report, "111030"):
        points = list(zip(region.GraphicData[::2], region.GraphicData[1::2], strict=True))
        assert (region.GraphicType, len(points)) == ("POLYLINE", 5)
        assert points[0] == points[-1]
        assert all(0 <= x <= 300 and 0 <= y <= 400 for x, y in points)


def test_a_finding_has_what_the_profile_asks_for(report, algorithm):
    group = named(report, "125007")[0]
    rows = {concept_value(item): item for item in group.ContentSequence}
    assert group.ContentTemplateSequence[0].TemplateIdentifier == "1410"
    assert value_of(rows["121071"]) == "129788004"
    assert value_of(rows["363698007"]) == "76752008"
    assert value_of(rows["363698007"].ContentSequence[0]) == "24028007"  # right
    assert rows["111001"].TextValue == algorithm.name
    assert rows["111003"].TextValue == algorithm.version
    assert rows["111002"].TextValue == "threshold=0.25"
    measured = rows["111012"].MeasuredValueSequence[0]
    assert (float(measured.NumericValue), measured.MeasurementUnitsCodeSequence[0].CodeValue) == (93.0, "%")


def test_tracking_identifiers_are_those_of_the_cad_report(report, four_views, algorithm):
    in_cad = [item.UID for item in named(mammography_cad_sr(four_views, algorithm), "112040")]
    regions = [group for group in named(report, "125007") if named(group, "111030")]
    assert [named(group, "112040")[0].UID for group in regions] == in_cad


def test_another_reader_finds_regions_and_scores(report, tmp_path):
    path = tmp_path / "report.dcm"
    report.save_as(path, enforce_file_format=True)
    read = hd.sr.Comprehensive3DSR.from_dataset(dcmread(path)).content
    groups = read.get_planar_roi_measurement_groups(graphic_type=hd.sr.GraphicTypeValues.POLYLINE)
    certainty = concepts.CERTAINTY_OF_FINDING
    scores = [one.value for group in groups for one in group.get_measurements(name=certainty)]
    assert scores == [93.0, 41.0, 88.4, 61.0]
    assert groups[0].roi.value[2].tolist() == [240.75, 170.0]


def test_another_reader_reads_a_report_without_findings(make_image, algorithm, tmp_path):
    """highdicom fails where the container of the measurements has nothing in it."""
    path = tmp_path / "report.dcm"
    ai_sr([make_image()], algorithm).save_as(path, enforce_file_format=True)
    read = hd.sr.Comprehensive3DSR.from_dataset(dcmread(path)).content
    assert read.get_planar_roi_measurement_groups() == []
    [container] = [item for item in read[0].ContentSequence if item.name.value == "126010"]
    assert [item.TextValue for item in container.ContentSequence] == ["No image of this study has a finding."]


def test_nothing_found_is_said_of_the_image(report):
    [absent] = [item for item in named(report, "129788004") if item.ValueType == "CODE"]
    assert value_of(absent) == "272519000"
    [summary] = named(report, "111017")
    assert value_of(summary) == "111242"


def test_an_image_that_was_not_read_has_the_reason(make_image, algorithm):
    failed = make_image("L", "MLO", 2, reason="The view is magnified.")
    report = ai_sr([make_image(), failed], algorithm)
    [outcome] = named(report, "111064")
    assert value_of(outcome) == "111224"
    comments = [item.TextValue for item in named(report, "121106")]
    assert comments[:3] == [
        "No image of this study has a finding.",
        "R CC 2.25.10001: nothing found",
        "L MLO 2.25.10002: not processed: The view is magnified.",
    ]
    assert value_of(named(report, "111017")[0]) == "111243"


def test_who_made_it_and_the_images(report, algorithm):
    acquired, processed, *_ = report.ContributingEquipmentSequence
    assert acquired.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert processed.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (processed.Manufacturer, processed.ManufacturerModelName) == ("Mammoscope", algorithm.name)
    assert processed.ContributionDateTime == "20260103080910"
    assert named(report, "121013")[0].TextValue == algorithm.name


def test_what_an_image_does_not_say_is_not_in_the_library(make_image, algorithm):
    bare = make_image(PatientOrientation=None, ImagerPixelSpacing=None, SOPClassUID=SecondaryCaptureImageStorage)
    [entry] = named(named(ai_sr([bare], algorithm), "126200")[0], "260753009")
    assert [concept_value(item) for item in entry.ContentSequence] == ["121139", "110910", "110911"]


def test_a_class_without_a_code_is_refused(make_image, algorithm):
    image = make_image()
    found = Reading("x", ReadingStatus.FOUND, (Finding(Box(1, 1, 9, 9), 0.5, "Mitten"),))
    other = ReadMammogram(image.mammogram, found)
    assert ai_sr_obstacle(other) == "the report has no code for findings of the class Mitten"
    with pytest.raises(ResultError, match="image-1 cannot be in an AI report"):
        ai_sr([other], algorithm)


@pytest.fixture(scope="module")
def reports(report, make_image, algorithm, now, tmp_path_factory):
    """The cases that must pass every validator, as files."""
    bare = make_image(
        findings=[((10, 10, 20, 20), 0.5)],
        SpecificCharacterSet="ISO_IR 148",
        PatientName="Şahin^Gülşen",
        PatientOrientation=None,
        ImagerPixelSpacing=None,
        StudyID=None,
        known=False,
    )
    mixed = [
        # Two: where a report has one region, PixelMed demands one of every group.
        make_image(findings=[((10, 10, 20, 20), 0.5), ((30, 30, 50, 50), 0.4)]),
        make_image("L", number=2),
        make_image("L", "MLO", number=3, reason="No pixels."),
    ]
    cases = {
        "four-views": report,
        "found-absent-and-not-read": ai_sr(mixed, algorithm, now=now),
        "bare": ai_sr([bare], algorithm, now=now),
        "verified": ai_sr(mixed, algorithm, now=now, verified_by="Doe Jane", organisation="Clinic"),
    }
    folder = tmp_path_factory.mktemp("reports")
    paths = {name: folder / f"{name}.dcm" for name in cases}
    for name, path in paths.items():
        cases[name].save_as(path, enforce_file_format=True)
    return paths


def test_a_readers_report_is_verified_and_of_a_person(four_views, algorithm, now):
    report = ai_sr(four_views, algorithm, now=now, verified_by="Doe^Jane=x", organisation="Clinic")
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE", "VERIFIED", "FINAL",
    )  # fmt: skip
    [observer] = report.VerifyingObserverSequence
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == ("Doe Jane x^", "Clinic")
    assert value_of(named(report, "121005")[0]) == "121006"  # a person
    assert named(report, "121008")[0].PersonName == "Doe Jane x^"
    assert not named(report, "111001")  # no finding is an algorithm's
    assert ai_sr_marks(report) == ai_sr_marks(ai_sr(four_views, algorithm, now=now))


@pytest.mark.validators
def test_dciodvfy_and_dsrdump_find_no_error(reports, dciodvfy_errors, dsrdump_errors):
    for validator in (dciodvfy_errors, dsrdump_errors):
        assert {name: validator(path) for name, path in reports.items()} == {name: [] for name in reports}


@pytest.mark.validators
def test_pixelmed_finds_no_error_nor_an_item_out_of_order(reports, pixelmed_errors):
    assert pixelmed_errors(reports["found-absent-and-not-read"], "TID_1500") == []
