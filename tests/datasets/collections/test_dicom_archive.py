"""Mammograms with annotation objects about them: Mammoscope's own results, and objects of other makers' kinds."""

from datetime import datetime

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    MammographyCADSRStorage,
    generate_uid,
)

from mammoscope.datasets import PatientUnknownError
from mammoscope.datasets.formats.dicom.annotations import ANNOTATIONS, read_annotation_objects
from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Laterality, Mammogram, View
from mammoscope.results import ReadMammogram, study_results

ROWS, COLUMNS = 400, 300
MASS = Code("4147007", "SCT", "Mass")
NOW = datetime(2026, 1, 3, 8, 9, 10)


@pytest.fixture
def laid(lay, grey):
    laid = lay("dicom")
    for number, side in ((1, "L"), (2, "R")):
        laid.dicom(
            f"{number}.dcm", grey(ROWS, COLUMNS), SOPInstanceUID=f"1.2.{number}", StudyInstanceUID="1.2",
            PatientID="P1", SeriesInstanceUID=f"1.2.0.{number}", ImageLaterality=side, ViewPosition="CC",
            view_code="399162004",
            PatientName="", PatientBirthDate="", PatientSex="F", StudyDate="20260102", StudyTime="093000", StudyID="1",
            AccessionNumber="", ReferringPhysicianName="", SeriesNumber=1, InstanceNumber=number, Manufacturer="ACME",
            PatientOrientation=["A", "R"], ContentDate="20260102", ContentTime="093000", BurnedInAnnotation="NO",
            LossyImageCompression="00",
        )  # fmt: skip
    return laid


def header(laid, number) -> Dataset:
    return dcmread(laid.folder / f"{number}.dcm", stop_before_pixels=True)


def read(laid, number, *boxes) -> ReadMammogram:
    """A mammogram with findings on it, as the node has them."""
    side = Laterality.LEFT if number == 1 else Laterality.RIGHT
    pixels = np.zeros((ROWS, COLUMNS), np.uint16)
    mammogram = Mammogram(pixels, str(number), laterality=side, view=View.CC, header=header(laid, number))
    status = ReadingStatus.FOUND if boxes else ReadingStatus.NOTHING_FOUND
    findings = tuple(Finding(box, 0.875) for box in boxes)
    return ReadMammogram(mammogram, Reading(str(number), status, findings, rows=ROWS, columns=COLUMNS, threshold=0.5))


def lay_results(laid, *images):
    for place, made in enumerate(study_results(images, Algorithm("test", "1"), now=NOW).objects):
        made.save_as(laid.folder / f"result-{place}.dcm", enforce_file_format=True)


def near(boxes, wanted):
    """The same boxes in any order: each is paired with one that is near, for rounding can change an order by edges."""
    unmatched = list(wanted)
    for box in boxes:
        found = [other for other in unmatched if box.as_tuple() == pytest.approx(other.as_tuple(), abs=0.01)]
        assert found, (box, unmatched)
        unmatched.remove(min(found, key=lambda other: np.abs(np.subtract(box.as_tuple(), other.as_tuple())).max()))
    assert not unmatched


def test_boxes_whose_order_rounding_changes_are_the_same_boxes():
    wanted = [Box(30.0, 5, 40, 15), Box(30.0000001, 80, 40, 90)]
    near([Box(float(np.float32(30.0000001)), 80, 40, 90), Box(30.0, 5, 40, 15)], wanted)
    near([Box(30.0000002, 5, 40, 15), Box(30.0000001, 80, 40, 90)], wanted)
    for other in ([], wanted[:1], [wanted[0], wanted[0]], [*wanted, Box(1, 1, 2, 2)]):
        with pytest.raises(AssertionError):
            near(other, wanted)


def test_own_results_come_back_as_the_same_boxes_each_once(laid):
    """The report and the presentation state show the same findings, and the capture is no mammogram."""
    wanted = [Box(180.257, 120.51, 240.75, 170.013), Box(20.1, 30.2, 60.3, 70.4)]
    lay_results(laid, read(laid, 1, *wanted), read(laid, 2))

    images = laid.images()

    assert set(images) == {"1.2.1", "1.2.2"}
    near(images["1.2.1"].boxes, wanted)
    assert images["1.2.1"].labels == ("Mass", "Mass")
    assert images["1.2.1"].box_facts[0]["attributes"]["certainty_percent"] == 87.5
    # read, and nothing found
    assert images["1.2.2"].boxes == ()
    assert "review" not in images["1.2.2"].facts
    assert (images["1.2.1"].patient, images["1.2.1"].laterality) == ("P1", Laterality.LEFT)


def reported(laid):
    """The CAD report on disk, and its first finding."""
    (path,) = (p for p in laid.folder.glob("result-*.dcm") if dcmread(p).SOPClassUID == MammographyCADSRStorage)
    report = dcmread(path)

    def found(item):
        for child in item.get("ContentSequence", ()):
            if child.get("ConceptNameCodeSequence") and child.ConceptNameCodeSequence[0].CodeValue == "111059":
                return child
            if (inner := found(child)) is not None:
                return inner
        return None

    return path, report, found(report)


@pytest.mark.parametrize(
    ("value", "scheme", "name", "said"),
    [
        ("24142002", "SCT", "Nipple", "no lesion but the finding 'Nipple'"),
        ("F-01775", "SRT", "Calcification Cluster", None),
        ("F-01796", "SRT", "Mammography breast density", None),
    ],
)
def test_a_report_says_what_its_findings_are(laid, value, scheme, name, said):
    lay_results(laid, read(laid, 1, Box(20, 30, 60, 70)))
    path, report, finding = reported(laid)
    kind = finding.ConceptCodeSequence[0]
    kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning = value, scheme, name
    report.save_as(path)
    for other in laid.folder.glob("result-*.dcm"):
        if other != path:
            other.unlink()

    done = laid.bring()
    image = laid.images(overwrite=True)["1.2.1"]

    if said:
        assert image.boxes == ()
        assert said in done.notes[0]
    else:
        assert image.labels == ("Calcification" if "Calc" in name else "Mass",)


def test_a_finding_that_is_not_for_presentation_is_passed_over(laid):
    lay_results(laid, read(laid, 1, Box(20, 30, 60, 70)))
    path, report, finding = reported(laid)
    (intent,) = (i for i in finding.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "111056")
    intent.ConceptCodeSequence[0].CodeValue = "111152"
    report.save_as(path)
    for other in laid.folder.glob("result-*.dcm"):
        if other != path:
            other.unlink()
    assert laid.images()["1.2.1"].boxes == ()


@settings(max_examples=12, deadline=None)
@given(
    some.lists(
        some.tuples(some.floats(0, 250), some.floats(0, 350), some.floats(1, 50), some.floats(1, 50)).map(
            lambda edges: Box.from_xywh(*edges)
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda box: tuple(round(edge) for edge in box.as_tuple()),
    )
)
def test_any_boxes_survive_the_way_through_the_archive(tmp_path_factory, boxes):
    """To 0.01 pixel, though DICOM keeps coordinates in 32 bits."""
    folder = tmp_path_factory.mktemp("archive")
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = DigitalMammographyXRayImageStorageForPresentation, "1.2.1"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.PatientID = "1.2", "1.2.0", "P1"
    image.Rows, image.Columns, image.SamplesPerPixel, image.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    image.ImageLaterality, image.ViewPosition = "L", "CC"
    mammogram = Mammogram(np.zeros((ROWS, COLUMNS), np.uint16), "1", Laterality.LEFT, View.CC, header=image)
    findings = tuple(Finding(box, 0.5) for box in boxes)
    reading = Reading("1", ReadingStatus.FOUND, findings, rows=ROWS, columns=COLUMNS, threshold=0.5)
    made = study_results([ReadMammogram(mammogram, reading)], Algorithm("test", "1"), now=NOW).objects
    paths = []
    for number, result in enumerate(made):
        if str(result.SOPClassUID) in ANNOTATIONS:
            paths.append(folder / f"{number}.dcm")
            result.save_as(paths[-1], enforce_file_format=True)
    assert len(paths) == 3
    for some_paths in (paths, paths[:1], paths[1:]):
        near([mark.box for mark in read_annotation_objects(some_paths).marks["1.2.1"]], boxes)


def test_presentation_states_alone_give_the_same_boxes(laid):
    wanted = [Box(180.257, 120.51, 240.75, 170.013)]
    lay_results(laid, read(laid, 1, *wanted))
    for path in laid.folder.glob("result-*.dcm"):
        if dcmread(path).SOPClassUID != GrayscaleSoftcopyPresentationStateStorage:
            path.unlink()

    images = laid.images()

    near(images["1.2.1"].boxes, wanted)
    assert images["1.2.1"].labels == ("Mass",)
    assert images["1.2.1"].box_facts[0]["attributes"]["text"].startswith("Mass")
    # no object speaks of the other image
    assert images["1.2.2"].facts["review"] == "unannotated"


def state(laid, graphics, texts=(), **elements):
    """A presentation state of another maker: graphics are (type, units, data)."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = GrayscaleSoftcopyPresentationStateStorage, generate_uid()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.PatientID, made.StudyInstanceUID, made.Modality = "P1", "1.2", "PR"
    made.PresentationCreationDate = "20260103"
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header(laid, 1).SOPClassUID, "1.2.1"
    annotation = Dataset()
    annotation.ReferencedImageSequence = [image]
    annotation.GraphicObjectSequence, annotation.TextObjectSequence = [], []
    for kind, units, data in graphics:
        graphic = Dataset()
        graphic.GraphicType, graphic.GraphicAnnotationUnits, graphic.GraphicData = kind, units, data
        annotation.GraphicObjectSequence.append(graphic)
    for words in texts:
        text = Dataset()
        text.UnformattedTextValue = words
        annotation.TextObjectSequence.append(text)
    made.GraphicAnnotationSequence = [annotation]
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.save_as(laid.folder / "state.dcm", enforce_file_format=True)


def displayed(left, top, right, bottom):
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [left, top], [right, bottom]
    return [area]


def test_figures_of_every_kind_have_their_boxes(laid):
    state(
        laid,
        [
            ("CIRCLE", "PIXEL", [100, 50, 100, 60]),  # centre, a point on it: radius 10
            ("ELLIPSE", "PIXEL", [10, 100, 50, 100, 30, 90, 30, 110]),  # ends of the long and the short axis
            ("POLYLINE", "PIXEL", [5, 5, 20, 5, 12, 25, 5, 5]),
            ("POLYLINE", "DISPLAY", [0.1, 0.5, 0.2, 0.5, 0.2, 0.75, 0.1, 0.5]),
            ("POINT", "PIXEL", [7, 7]),
        ],
        ["a mass", "calcifications", "architectural distortion", "?", "look here"],
        DisplayedAreaSelectionSequence=displayed(1, 1, COLUMNS, ROWS),
    )
    done = laid.bring()
    image = laid.images(overwrite=True)["1.2.1"]

    near(image.boxes, [Box(90, 40, 110, 60), Box(10, 90, 50, 110), Box(5, 5, 20, 25), Box(30, 200, 60, 300)])
    assert image.labels == ("Mass", "Calcification", "Architectural distortion", "Abnormality")
    assert image.box_facts[2]["segmentation"] == [[5, 5, 20, 5, 12, 25]]
    assert "state.dcm: 1 marks were passed over, the first is a point without an area." in done.notes


def test_a_tilted_ellipse_has_the_box_of_its_curve(laid):
    # half axes 20 and 0.001 under 45 degrees: 20 * cos(45 degrees) to each side
    short = 0.001 / 2**0.5
    half = 20 / 2**0.5
    data = [100 - half, 100 - half, 100 + half, 100 + half, 100 - short, 100 + short, 100 + short, 100 - short]
    state(laid, [("ELLIPSE", "PIXEL", data)])
    (box,) = laid.images()["1.2.1"].boxes
    assert box.as_tuple() == pytest.approx((85.858, 85.858, 114.142, 114.142), abs=0.01)


def test_display_units_of_a_turned_display_are_not_guessed(laid):
    state(laid, [("POLYLINE", "DISPLAY", [0.1, 0.5, 0.2, 0.5, 0.2, 0.75])], ImageRotation=90,
          DisplayedAreaSelectionSequence=displayed(1, 1, COLUMNS, ROWS))  # fmt: skip
    done = laid.bring()
    assert done.written.boxes == 0
    assert "a graphic in display units of a turned or unknown display" in done.notes[0]


def save(laid, made, name):
    made.save_as(laid.folder / name, enforce_file_format=True)


def common(number):
    return {"series_instance_uid": generate_uid(), "series_number": number, "sop_instance_uid": generate_uid(),
            "instance_number": 1, "manufacturer": "ACME"}  # fmt: skip


def measurement_report(laid, kind, corners, tracking=None, predecessor=None):
    """A TID 1500 report of one region, by highdicom."""
    observer = hd.sr.ObserverContext(
        codes.DCM.Device, hd.sr.DeviceObserverIdentifyingAttributes(uid=generate_uid())
    )  # fmt: skip
    region = hd.sr.ImageRegion(
        hd.sr.GraphicTypeValues.POLYLINE, np.array(corners, float),
        hd.sr.SourceImageForRegion(header(laid, 2).SOPClassUID, "1.2.2"),
    )  # fmt: skip
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        hd.sr.TrackingIdentifier(tracking or generate_uid(), "lesion"), referenced_region=region, finding_type=kind
    )
    content = hd.sr.MeasurementReport(
        hd.sr.ObservationContext(observer_device_context=observer), codes.LN.DiagnosticImagingReport, [group]
    )  # fmt: skip
    made = hd.sr.ComprehensiveSR([header(laid, 2)], content, **common(9), is_complete=True)
    if predecessor is not None:
        reference, series, study = Dataset(), Dataset(), Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = predecessor
        series.SeriesInstanceUID, series.ReferencedSOPSequence = generate_uid(), [reference]
        study.StudyInstanceUID, study.ReferencedSeriesSequence = "1.2", [series]
        made.PredecessorDocumentsSequence = [study]
    save(laid, made, f"report-{made.SOPInstanceUID}.dcm")
    return made.SOPClassUID, made.SOPInstanceUID


TRIANGLE = [(10, 20), (30.5, 22), (25, 40.25), (10, 20)]


def test_measurement_reports_are_read(laid):
    measurement_report(laid, MASS, TRIANGLE)
    image = laid.images()["1.2.2"]
    assert image.boxes == (Box(10, 20, 30.5, 40.25),)
    assert image.labels == ("Mass",)
    assert image.box_facts[0]["segmentation"] == [[10, 20, 30.5, 22, 25, 40.25]]
    assert image.box_facts[0]["attributes"] == {"finding": "Mass"}


def test_coordinates_without_a_name_or_an_image_of_their_own(laid):
    """As some viewers write them; an open line such as an angle is none."""
    measurement_report(laid, MASS, TRIANGLE)
    (path,) = laid.folder.glob("report-*.dcm")
    report = dcmread(path)

    def groups(item):
        for child in item.get("ContentSequence", ()):
            if child.get("ConceptNameCodeSequence") and child.ConceptNameCodeSequence[0].CodeValue == "125007":
                yield child
            yield from groups(child)

    (group,) = groups(report)
    (region,) = (child for child in group.ContentSequence if child.ValueType == "SCOORD")
    del region.ConceptNameCodeSequence
    report.save_as(path)
    assert laid.images()["1.2.2"].boxes == (Box(10, 20, 30.5, 40.25),)
    image = region.ContentSequence[0]
    del region.ContentSequence
    image.RelationshipType = "CONTAINS"
    group.ContentSequence.append(image)
    report.save_as(path)
    assert laid.images(overwrite=True)["1.2.2"].boxes == (Box(10, 20, 30.5, 40.25),)
    region.GraphicData = list(region.GraphicData)[:-2]
    report.save_as(path)
    said, _ = laid.unannotated("1.2.2")
    assert said == {"passed_over": {"an open line without an area": 1}}


def test_a_report_that_was_replaced_no_longer_counts(laid):
    first = measurement_report(laid, MASS, TRIANGLE)
    moved = [(x + 50, y) for x, y in TRIANGLE]
    measurement_report(laid, MASS, moved, predecessor=first)
    done = laid.bring()
    assert laid.images(overwrite=True)["1.2.2"].boxes == (Box(60, 20, 80.5, 40.25),)
    assert "1 reports have been replaced by later ones and were left out." in done.notes


def segmentation(laid, masks, tracking=None):
    """A binary segmentation of one segment, by highdicom; parts of one mask are parts of one segment."""
    described = hd.seg.SegmentDescription(
        1, "lesion", codes.SCT.MorphologicallyAbnormalStructure, MASS, hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=tracking, tracking_id=tracking and "lesion",
    )  # fmt: skip
    source = header(laid, 1)
    made = hd.seg.Segmentation(
        [source], masks, hd.seg.SegmentationTypeValues.BINARY, [described], **common(8),
        manufacturer_model_name="One", software_versions="1", device_serial_number="1",
    )  # fmt: skip
    save(laid, made, "segmentation.dcm")


def test_segments_are_boxes_of_their_parts(laid):
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[20:45, 10:31] = 1
    mask[200:210, 100:103] = 1
    segmentation(laid, mask)
    image = laid.images()["1.2.1"]
    assert image.boxes == (Box(10, 20, 31, 45), Box(100, 200, 103, 210))
    assert image.labels == ("Mass", "Mass")


def test_a_finding_that_two_objects_track_is_one(laid):
    tracking = generate_uid()
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[20:45, 10:31] = 1
    segmentation(laid, mask, tracking)
    state(laid, [("CIRCLE", "PIXEL", [20, 30, 20, 40])])
    annotated = dcmread(laid.folder / "state.dcm")
    annotated.GraphicAnnotationSequence[0].GraphicObjectSequence[0].TrackingUID = tracking
    annotated.save_as(laid.folder / "state.dcm")
    assert laid.images()["1.2.1"].boxes == (Box(10, 20, 31, 45),)


def test_marks_of_images_elsewhere_are_counted(laid):
    measurement_report(laid, MASS, TRIANGLE)
    (laid.folder / "2.dcm").unlink()
    assert "1 marks are on images that are not in the folder and were left out." in laid.bring().notes


def test_a_mark_outside_its_image_leaves_it_unannotated(laid):
    state(laid, [("CIRCLE", "PIXEL", [1000, 1000, 1000, 1010]), ("CIRCLE", "PIXEL", [100, 100, 100, 110])])
    said, counts = laid.unannotated("1.2.1")
    assert said == {"not_outlined": {"a mark outside its image": 1}}
    assert counts.first["a mark outside its image"] == "1.dcm"


def test_a_state_that_marks_nothing_says_nothing(laid):
    """A window alone, a text alone, and a graphic that is not read: none of these makes a negative."""
    for graphics, texts, said in (
        ([], [], None),
        ([], ["looks fine"], {"passed_over": {"a text without a graphic": 1}}),
        ([("POINT", "PIXEL", [7, 7])], [], {"passed_over": {"a point without an area": 1}}),
        ([("STAR", "PIXEL", [7, 7, 9, 9])], [], {"unknown": {"a graphic of the type 'STAR'": 1}}),
    ):
        state(laid, graphics, texts)
        laid.bring(overwrite=True)
        image = laid.images(overwrite=True)["1.2.1"]
        assert (image.boxes, image.review) == ((), "unannotated"), graphics
        assert image.facts.get("marks") == said


def test_a_report_on_an_image_that_was_not_processed_says_nothing_of_it(laid):
    one = read(laid, 1)
    refused = Reading("2", ReadingStatus.NOT_PROCESSED, (), rows=ROWS, columns=COLUMNS, reason="not for us")
    other = ReadMammogram(read(laid, 2).mammogram, refused)
    lay_results(laid, one, other)

    images = laid.images()

    assert {name: image.review for name, image in images.items()} == {"1.2.1": "annotated", "1.2.2": "unannotated"}


def test_compound_graphics_are_marks_as_well(laid):
    state(laid, [("POINT", "PIXEL", [7, 7])])
    made = dcmread(laid.folder / "state.dcm")
    compound = Dataset()
    compound.CompoundGraphicType, compound.CompoundGraphicUnits = "RECTANGLE", "PIXEL"
    compound.GraphicData, compound.CompoundGraphicInstanceID = [10, 20, 40, 60], 1
    arrow = Dataset()
    arrow.CompoundGraphicType, arrow.CompoundGraphicUnits, arrow.GraphicData = "ARROW", "PIXEL", [1, 2, 3, 4]
    made.GraphicAnnotationSequence[0].CompoundGraphicSequence = [compound, arrow]
    made.save_as(laid.folder / "state.dcm")

    image = laid.images()["1.2.1"]

    assert image.boxes == (Box(10, 20, 40, 60),)
    assert image.facts["marks"] == {
        "passed_over": {"a point without an area": 1, "a compound arrow without an area": 1}
    }  # fmt: skip


def test_an_empty_frame_says_that_there_is_nothing(laid):
    segmentation(laid, np.zeros((ROWS, COLUMNS), np.uint8))
    assert laid.images()["1.2.1"].review == "annotated"


def test_patients_are_not_guessed(laid, grey):
    laid.dicom("3.dcm", grey(ROWS, COLUMNS), SOPInstanceUID="1.2.3", StudyInstanceUID="1.3")
    with pytest.raises(PatientUnknownError, match=r"3.dcm names no patient, and so do 1 of 3 mammograms"):
        laid.bring()
    assert laid.images(each_image_a_patient=True)["1.2.3"].patient == "1.2.3"


def test_a_damaged_object_is_named(laid):
    measurement_report(laid, MASS, TRIANGLE)
    (path,) = laid.folder.glob("report-*.dcm")
    data = path.read_bytes()
    for whole in (500, len(data) // 2, len(data) - 100, len(data) - 1):
        path.write_bytes(data[:whole])
        said = laid.refused()
        assert path.name in said
        assert "again" in said


def test_a_folder_without_mammograms_is_refused(laid):
    measurement_report(laid, MASS, TRIANGLE)
    for number in (1, 2):
        (laid.folder / f"{number}.dcm").unlink()
    assert "holds no mammograms in DICOM" in laid.refused()
