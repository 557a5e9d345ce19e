"""The boxes as a segmentation object."""

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.results import ReadMammogram, ResultError, mammography_cad_sr, segmentation, segmentation_obstacle
from mammoscope.results.verification import concept_value, content_items, segmentation_marks


@pytest.fixture(scope="module")
def masks(four_views, algorithm, now):
    return segmentation(four_views[0], algorithm, now=now)


def test_each_finding_is_a_segment_of_the_images_size(masks):
    assert (masks.Modality, masks.SegmentationType, masks.SeriesNumber) == ("SEG", "BINARY", 9009)
    assert (masks.Rows, masks.Columns, masks.NumberOfFrames) == (400, 300, 2)
    assert [segment.SegmentLabel for segment in masks.SegmentSequence] == ["Mass 1, 93 %", "Mass 2, 41 %"]
    frames = masks.pixel_array
    # 180.25 to 240.75 and 120.5 to 170 become whole pixels 180 to 241 and 120 to 170.
    assert frames[0].sum() == 61 * 50
    assert frames[0, 120:170, 180:241].all()
    assert segmentation_marks(masks) == {"2.25.10001": [Box(180, 120, 241, 170), Box(200, 220, 230, 260)]}


def test_a_finding_that_sticks_out_is_cut(four_views, algorithm):
    assert segmentation_marks(segmentation(four_views[3], algorithm)) == {"2.25.10004": [Box(0, 380, 40, 400)]}


def test_findings_may_overlap(make_image, algorithm):
    image = make_image(findings=[((10, 10, 40, 40), 0.9), ((20, 20, 50, 50), 0.8)])
    masks = segmentation(image, algorithm)
    assert segmentation_marks(masks)["2.25.10001"] == [Box(10, 10, 40, 40), Box(20, 20, 50, 50)]
    assert masks.SegmentsOverlap == "YES"


def test_segments_say_what_where_and_by_whom(masks, algorithm, four_views):
    first = masks.SegmentSequence[0]
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "129788004"
    assert first.AnatomicRegionSequence[0].CodeValue == "73056007"  # right breast
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    [identified] = first.SegmentationAlgorithmIdentificationSequence
    assert (identified.AlgorithmName, identified.AlgorithmVersion) == (algorithm.name, algorithm.version)
    tracked = [item.UID for item in content_items(mammography_cad_sr(four_views, algorithm)) if "UID" in item]
    assert [segment.TrackingUID for segment in masks.SegmentSequence] == tracked[:2]
    assert concept_value(masks) is None
    assert list(masks.PatientOrientation) == ["P", "L"]


def test_images_that_have_none(make_image, algorithm):
    assert segmentation_obstacle(make_image()) == "it has no findings"
    image = make_image(findings=[((1, 1, 9, 9), 0.5)])
    mitten = Reading("x", ReadingStatus.FOUND, (Finding(Box(1, 1, 9, 9), 0.5, "Mitten"),))
    assert "no code" in segmentation_obstacle(ReadMammogram(image.mammogram, mitten))
    many = Reading("x", ReadingStatus.FOUND, tuple(Finding(Box(1, 1, 9, 9), 0.5) for _ in range(4500)))
    assert "4500 findings are too many" in segmentation_obstacle(ReadMammogram(image.mammogram, many))
    with pytest.raises(ResultError, match="image-1 cannot have a segmentation: it has no findings"):
        segmentation(make_image(), algorithm)


def test_a_box_less_than_a_pixel_wide_still_marks_one(make_image, algorithm):
    masks = segmentation(make_image(findings=[((10.1, 20.2, 10.4, 20.3), 0.5)]), algorithm)
    assert np.argwhere(masks.pixel_array.reshape(400, 300)).tolist() == [[20, 10]]


AT_THE_DETECTOR = "Pixel spacing: at the detector, not in the breast (Imager Pixel Spacing)."


@pytest.mark.parametrize(
    ("attributes", "spacing", "thickness", "said"),
    [
        (
            {"PixelSpacing": [0.05, 0.06], "BodyPartThickness": 53},
            [0.05, 0.06],
            53,
            "Pixel spacing: that of the image (Pixel Spacing). Slice thickness: the compressed breast.",
        ),
        ({}, [0.07, 0.08], 1, f"{AT_THE_DETECTOR} Slice thickness: nominal, the breast's is unknown."),
        ({"ImagerPixelSpacing": None}, None, None, "Pixel spacing: unknown."),
    ],
)
def test_the_masks_say_how_large_their_pixels_are(make_image, algorithm, attributes, spacing, thickness, said):
    image = make_image(findings=[((10, 10, 40, 40), 0.9)], **attributes)
    masks = segmentation(image, algorithm)
    assert masks.SegmentSequence[0].SegmentDescription == f"Box around a finding, no outline of it. {said}"
    shared = masks.SharedFunctionalGroupsSequence[0]
    [measures] = shared.get("PixelMeasuresSequence") or [Dataset()]
    assert measures.get("PixelSpacing") == spacing
    assert measures.get("SliceThickness") == thickness
    # A projection is no plane in the patient, and a viewer that needs one is not to be given a made up one.
    assert "PlaneOrientationSequence" not in shared
    read = hd.seg.Segmentation.from_dataset(masks).get_pixels_by_source_instance([image.sop_instance_uid])
    assert np.argwhere(read[0, ..., 0]).min(axis=0).tolist() == [10, 10]
    assert read.sum() == 900


@pytest.mark.validators
def test_dciodvfy_finds_no_error(*, four_views, make_image, now, tmp_path, dciodvfy_errors):
    bare = make_image(
        findings=[((10, 10, 20, 20), 0.5)],
        known=False,
        PatientOrientation=None,
        ImagerPixelSpacing=None,
        StudyID=None,
        SpecificCharacterSet="ISO_IR 127",
        PatientName="قباني^لنزار",
    )
    for image in (four_views[0], bare):
        path = tmp_path / "masks.dcm"
        segmentation(image, Algorithm("Göğüs " * 20, "1"), now=now).save_as(path, enforce_file_format=True)
        assert dciodvfy_errors(path) == []
