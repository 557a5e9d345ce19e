"""The mammography CAD report: what the validators do not see, and what they do."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom import Dataset
from pydicom.uid import ComputedRadiographyImageStorage, SecondaryCaptureImageStorage

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.results import ReadMammogram, ResultError, cad_sr_obstacle, mammography_cad_sr
from mammoscope.results.verification import cad_sr_marks, concept_value, content_item_at, content_items


def named(document, value):
    return [item for item in content_items(document) if concept_value(item) == value]


def value_of(item):
    return item.ConceptCodeSequence[0].CodeValue


def test_the_root_follows_the_template(four_views, algorithm):
    report = mammography_cad_sr(four_views, algorithm)
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "4000"
    assert report.ContentTemplateSequence[0].MappingResource == "DCMR"
    assert [concept_value(item) for item in report.ContentSequence] == [
        "121049",
        "111028",
        "111017",
        "111064",
        "111065",
    ]


def test_a_finding_has_its_rows_in_order(four_views, algorithm):
    findings = named(mammography_cad_sr(four_views, algorithm), "111059")
    assert len(findings) == 4
    for finding in findings:
        rows = [concept_value(item) for item in finding.ContentSequence]
        assert rows == ["111056", "112039", "112040", "111001", "111003", "111012", "111010", "111041"]
        assert value_of(finding) == "129793001"
        assert value_of(finding.ContentSequence[0]) == "111150"
        assert finding.ContentSequence[3].TextValue == algorithm.name
        assert finding.ContentSequence[4].TextValue == algorithm.version


def test_coordinates_read_back_are_the_boxes_of_the_reading(four_views, algorithm):
    marks = cad_sr_marks(mammography_cad_sr(four_views, algorithm))
    assert marks["2.25.10001"] == [Box(180.25, 120.5, 240.75, 170.0), Box(200, 220, 230, 260)]
    assert marks["2.25.10002"] == []
    assert marks["2.25.10003"] == [Box(170, 90, 225, 150)]
    assert marks["2.25.10004"] == [Box(0, 380, 40, 400)]  # cut at the edges of a 300 x 400 image


def test_outlines_are_closed_and_centers_lie_in_the_middle(four_views, algorithm):
    report = mammography_cad_sr(four_views, algorithm)
    outlines, centers = named(report, "111041"), named(report, "111010")
    assert len(outlines) == len(centers) == 4
    for outline, center in zip(outlines, centers, strict=True):
        points = list(zip(outline.GraphicData[::2], outline.GraphicData[1::2], strict=True))
        assert outline.GraphicType == "POLYLINE"
        assert len(points) == 5
        assert points[0] == points[-1]
        assert all(0 <= x <= 300 and 0 <= y <= 400 for x, y in points)
        assert center.GraphicType == "POINT"
        middle = ((points[0][0] + points[2][0]) / 2, (points[0][1] + points[2][1]) / 2)
        assert tuple(center.GraphicData) == pytest.approx(middle)


def test_every_reference_leads_to_an_image_of_the_library(four_views, algorithm):
    report = mammography_cad_sr(four_views, algorithm)
    paths = [
        list(item.ReferencedContentItemIdentifier)
        for item in content_items(report)
        if "ReferencedContentItemIdentifier" in item
    ]
    assert len(paths) == 2 * 4 + 4  # center and outline of four findings, four images searched
    assert {path[1] for path in paths} == {2}
    assert all(content_item_at(report, path).ValueType == "IMAGE" for path in paths)


def test_certainty_is_in_percent(four_views, algorithm):
    numbers = [item.MeasuredValueSequence[0] for item in named(mammography_cad_sr(four_views, algorithm), "111012")]
    assert [float(number.NumericValue) for number in numbers] == [93.0, 41.0, 88.4, 61.0]


def test_the_library_says_what_each_image_says(four_views, algorithm):
    library = named(mammography_cad_sr(four_views, algorithm), "111028")[0].ContentSequence
    rows = {concept_value(item): item for item in library[2].ContentSequence}
    assert value_of(rows["111027"]) == "73056007"
    assert value_of(rows["111031"]) == "399368009"
    assert rows["111044"].TextValue == "P"
    assert rows["111043"].TextValue == "L"
    assert rows["111060"].Date == "20260102"
    assert rows["111019"].Time == "093100.125"
    # ImagerPixelSpacing is [down, across] in mm.
    assert float(rows["111026"].MeasuredValueSequence[0].NumericValue) == 80
    assert float(rows["111066"].MeasuredValueSequence[0].NumericValue) == 70


def test_what_an_image_does_not_say_is_left_out(make_image, algorithm):
    bare = make_image(
        ImageLaterality=None,
        ViewCodeSequence=None,
        PatientOrientation=None,
        ImagerPixelSpacing=None,
        ContentTime="",
        known=False,
    )
    library = named(mammography_cad_sr([bare], algorithm), "111028")[0].ContentSequence
    assert [concept_value(item) for item in library[0].ContentSequence] == ["111060", "111061", "111018"]


def test_side_and_view_come_from_what_the_mammogram_knows_where_the_codes_are_missing(make_image, algorithm):
    report = mammography_cad_sr([make_image("L", "MLO", ImageLaterality=None, ViewCodeSequence=None)], algorithm)
    assert [value_of(item) for item in named(report, "111027") + named(report, "111031")] == ["80248007", "399368009"]


@pytest.mark.parametrize("spacing", [[0.07], [0.07, 0.07, 0.07], [0, 0], []])
def test_a_spacing_that_is_none_is_left_out(make_image, algorithm, spacing):
    report = mammography_cad_sr([make_image(ImagerPixelSpacing=spacing)], algorithm)
    assert named(report, "111026") + named(report, "111066") == []


def _code_item(**values):
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "399162004"),  # incomplete: CC all the same, as the mammogram knows
        ({"CodeValue": "399260004"}, "399162004"),
        ({"LongCodeValue": "399260004", "CodingSchemeDesignator": "SCT"}, "399260004"),
        ({"LongCodeValue": "3" * 17, "CodingSchemeDesignator": "SCT"}, "399162004"),
    ],
)
def test_a_view_code_that_is_incomplete_is_not_copied(make_image, algorithm, values, expected):
    view = _code_item(**values)
    view.ViewModifierCodeSequence = [Dataset(), _code_item(CodeValue="399163009", CodingSchemeDesignator="SCT")]
    report = mammography_cad_sr([make_image("R", "CC", ViewCodeSequence=[view])], algorithm)
    (item,) = named(report, "111031")
    assert value_of(item) == expected
    assert [value_of(modifier) for modifier in item.ContentSequence] == ["399163009"]


def test_retired_view_codes_come_out_in_snomed_ct(make_image, algorithm):
    view, modifier = Dataset(), Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "R-10226", "SNM3", "medio-lateral oblique"
    modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = "R-102D6", "SRT", "Magnification"
    view.ViewModifierCodeSequence = [modifier]
    report = mammography_cad_sr([make_image(ViewCodeSequence=[view])], algorithm)
    (item,) = named(report, "111031")
    assert value_of(item) == "399368009"
    assert value_of(item.ContentSequence[0]) == "399163009"


def test_images_come_in_hanging_order_whatever_the_order_of_arrival(four_views, algorithm):
    forward = mammography_cad_sr(four_views, algorithm)
    backward = mammography_cad_sr(four_views[::-1], algorithm)
    images = [item for item in content_items(forward) if item.get("ValueType") == "IMAGE"]
    order = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images]
    assert order == ["2.25.10001", "2.25.10002", "2.25.10003", "2.25.10004"]
    assert forward.SOPInstanceUID == backward.SOPInstanceUID
    assert forward.ContentSequence == backward.ContentSequence


def test_the_evidence_lists_each_image_in_its_series(four_views, algorithm):
    (study,) = mammography_cad_sr(four_views, algorithm).CurrentRequestedProcedureEvidenceSequence
    listed = {
        series.SeriesInstanceUID: [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]
        for series in study.ReferencedSeriesSequence
    }
    assert listed == {"2.25.101": ["2.25.10001", "2.25.10003"], "2.25.100": ["2.25.10002", "2.25.10004"]}


@pytest.mark.parametrize(
    ("outcomes", "summary", "status", "containers"),
    [
        (("found", "nothing"), "111242", "111222", {"111063": 2}),
        (("nothing", "nothing"), "111241", "111222", {"111063": 2}),
        (("found", "failed"), "111244", "111223", {"111063": 1, "111025": 1}),
        (("nothing", "failed"), "111243", "111223", {"111063": 1, "111025": 1}),
        (("failed", "failed"), "111245", "111224", {"111025": 2}),
    ],
)
def test_the_summaries_say_how_it_went(*, make_image, algorithm, outcomes, summary, status, containers):
    box = [((10, 10, 20, 20), 0.5)]
    images = [
        make_image(
            view=view,
            number=number,
            findings=box if outcome == "found" else (),
            reason="The pixels could not be decoded." if outcome == "failed" else None,
        )
        for number, (view, outcome) in enumerate(zip(("CC", "MLO"), outcomes, strict=True), start=1)
    ]
    report = mammography_cad_sr(images, algorithm)
    assert value_of(named(report, "111017")[0]) == summary
    detections = named(report, "111064")[0]
    assert value_of(detections) == status
    found = {
        concept_value(heading): sum("ReferencedContentItemIdentifier" in i for i in content_items(heading))
        for heading in detections.ContentSequence
    }
    assert found == containers
    assert value_of(named(report, "111065")[0]) == "111225"


def test_why_an_image_was_not_read_stands_among_the_failed_detections(make_image, algorithm):
    reasons = ("The view is magnified.", "The pixels could not be decoded.", "The view is magnified.", None)
    images = [make_image(number=number, reason=reason) for number, reason in enumerate(reasons, start=1)]
    report = mammography_cad_sr(images, algorithm)
    [failed] = named(report, "111025")
    said = {
        named(performed, "111002")[0].TextValue: sum(
            "ReferencedContentItemIdentifier" in item for item in performed.ContentSequence
        )
        for performed in failed.ContentSequence
    }
    assert said == {
        "not processed: The view is magnified.": 2,
        "not processed: The pixels could not be decoded.": 1,
    }
    [succeeded] = named(report, "111063")
    assert [item.TextValue for item in named(succeeded, "111002")] == ["threshold=0.25"]


def test_kinds_of_object_that_may_be_referred_to(make_image, algorithm):
    film = make_image(SOPClassUID=SecondaryCaptureImageStorage)
    assert cad_sr_obstacle(film) is None
    by_position = make_image(SOPClassUID=SecondaryCaptureImageStorage, ViewCodeSequence=None, ImageLaterality=None)
    assert cad_sr_obstacle(by_position) is None  # the mammogram knows them from other attributes
    unknown = make_image(SOPClassUID=SecondaryCaptureImageStorage, ViewCodeSequence=None, known=False)
    assert cad_sr_obstacle(unknown) == "digitised film without view"
    with pytest.raises(ResultError, match="image-1 cannot be in a mammography CAD report: digitised film without"):
        mammography_cad_sr([unknown], algorithm)
    assert "Computed Radiography" in cad_sr_obstacle(make_image(SOPClassUID=ComputedRadiographyImageStorage))


def test_a_class_without_a_code_is_refused_not_called_a_mass(make_image, algorithm):
    image = make_image()
    found = Reading("x", ReadingStatus.FOUND, (Finding(Box(1, 1, 9, 9), 0.5, "Mitten"),))
    with pytest.raises(ResultError, match="no code for findings of the class Mitten"):
        mammography_cad_sr([ReadMammogram(image.mammogram, found)], algorithm)


def test_a_name_of_an_algorithm_that_no_character_set_here_holds(make_image):
    report = mammography_cad_sr([make_image(findings=[((1, 1, 9, 9), 0.5)])], Algorithm("Göğüs\\2", "β"))
    assert all(item.TextValue.isascii() for item in named(report, "111001") + named(report, "111003"))


@pytest.fixture(scope="module")
def reports(four_views, make_image, algorithm, now, tmp_path_factory):
    """The cases that must pass every validator, as files."""
    nothing = [make_image(*view, number) for number, view in enumerate([("R", "CC"), ("L", "CC")], start=1)]
    failed = [*four_views[:3], make_image("L", "MLO", 4, reason="The pixels could not be decoded.")]
    none_read = [make_image(reason="The pixels could not be decoded.")]
    turkish_and_bare = make_image(
        findings=[((10, 10, 20, 20), 0.5)],
        SpecificCharacterSet="ISO_IR 148",
        PatientName="Şahin^Gülşen",
        ImageLaterality=None,
        ViewCodeSequence=None,
        PatientOrientation=None,
        ImagerPixelSpacing=None,
        known=False,
    )
    odd = make_image(ImageLaterality=None, ViewCodeSequence=[Dataset()], ImagerPixelSpacing=[0.07], StudyDate="")
    pair = [
        make_image("R", view, number, [((170, 100, 230, 160), 0.9)], spacing_mm=0.5)
        for number, view in enumerate(("CC", "MLO"), start=1)
    ]
    cases = {
        "a-pair": pair,
        "odd-header": [odd],
        "four-views": four_views,
        "two-views-nothing-found": nothing,
        "one-not-processed": failed,
        "none-processed": none_read,
        "turkish-name-bare-header": [turkish_and_bare],
    }
    folder = tmp_path_factory.mktemp("reports")
    paths = {}
    for name, images in cases.items():
        paths[name] = folder / f"{name}.dcm"
        mammography_cad_sr(images, algorithm, now=now).save_as(paths[name], enforce_file_format=True)
    return paths


@pytest.mark.validators
def test_dciodvfy_finds_no_error(reports, dciodvfy_errors):
    assert {name: dciodvfy_errors(path) for name, path in reports.items()} == {name: [] for name in reports}


@pytest.mark.validators
def test_dsrdump_finds_no_error(reports, dsrdump_errors):
    assert {name: dsrdump_errors(path) for name, path in reports.items()} == {name: [] for name in reports}


@pytest.mark.validators
def test_pixelmed_finds_no_error_nor_an_item_out_of_order(reports, pixelmed_errors):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = dict(zip(reports, pool.map(pixelmed_errors, reports.values()), strict=True))
    assert errors == {name: [] for name in reports}
