"""The sheet of a study."""

import numpy as np
import pytest
from pydicom.pixels import apply_voi_lut
from pydicom.uid import ComputedRadiographyImageStorage

from mammoscope.findings import Algorithm
from mammoscope.results import image_capture, secondary_capture
from mammoscope.results.rendering import SHEET_SIDE, draw_sheet, title_line
from mammoscope.results.study import in_hanging_order

YELLOW = (255, 214, 0)


def yellow(pixels):
    return ((pixels == YELLOW).all(axis=2)).sum()


def test_attributes_of_the_picture(four_views, algorithm, now):
    sheet = secondary_capture(four_views, algorithm, now=now)
    assert (sheet.PhotometricInterpretation, sheet.BitsStored, sheet.SamplesPerPixel) == ("RGB", 8, 3)
    assert max(sheet.Rows, sheet.Columns) <= SHEET_SIDE
    assert sheet.pixel_array.shape == (sheet.Rows, sheet.Columns, 3)
    assert sheet.ImageLaterality == "B"
    assert sheet.BurnedInAnnotation == "NO"
    assert sheet.LossyImageCompression == "00"
    assert sheet.SeriesDescription == "Mammoscope CAD sheet, research use only, mammoscope-test 1.2.0"
    assert "WindowCenter" not in sheet

    assert [item.ReferencedSOPInstanceUID for item in sheet.SourceImageSequence] == [
        "2.25.10001", "2.25.10002", "2.25.10003", "2.25.10004",
    ]  # fmt: skip
    assert (sheet.ContentDate, sheet.ContentTime) == ("20260103", "080910")


@pytest.mark.parametrize(("said", "expected"), [("YES", "YES"), ("NO", "NO"), (None, None)])
def test_burned_in_identity_of_a_mammogram_is_not_denied(make_image, algorithm, said, expected):
    images = [make_image(number=1), make_image("L", number=2, BurnedInAnnotation=said)]
    assert secondary_capture(images, algorithm).get("BurnedInAnnotation") == expected


def test_once_lossy_always_lossy(make_image, algorithm):
    image = make_image(
        LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_10918_1"
    )
    sheet = secondary_capture([image, make_image("L", number=2)], algorithm)
    assert (sheet.LossyImageCompression, sheet.LossyImageCompressionRatio) == ("01", 12.5)


def test_boxes_are_burned_in_where_the_finding_is(make_image, algorithm):
    nothing = secondary_capture([make_image(findings=())], algorithm).pixel_array
    found = secondary_capture([make_image(findings=[((100, 200, 160, 280), 0.9)])], algorithm).pixel_array
    assert yellow(nothing) == 0
    # One tile of 300 x 400 at the bottom of the sheet, below header and caption: 57 + 3 * 41 pixels.
    top = 57 + 3 * 41
    scale = (found.shape[0] - top) / 400
    left = (found.shape[1] - round(300 * scale)) / 2
    # The lower half of the box, clear of its label.
    rows, columns = np.nonzero((found[top + round(240 * scale) :] == YELLOW).all(axis=2))
    assert rows.max() + round(240 * scale) == pytest.approx(280 * scale, abs=2)
    assert columns.min() - left == pytest.approx(100 * scale, abs=2)
    assert columns.max() - left == pytest.approx(160 * scale, abs=2)


@pytest.mark.parametrize("name", ["m", "mammoscope-mass", "a-hospital-s-own-model-with-a-very-long-name" * 3])
def test_the_notice_on_top_is_never_cut(name):
    text, heading = title_line(Algorithm(name, "0.1.0+12b01909"), 1262)
    assert text.endswith(" - research use only, not for diagnosis")
    assert heading.getlength(text) <= 1262


def test_a_name_that_fits_in_smaller_letters_stays_whole():
    text, _ = title_line(Algorithm("mammoscope-mass", "0.1.0+12b01909"), 1262)
    assert text.startswith("Mammoscope mammoscope-mass 0.1.0+12b01909 - ")


def test_two_breasts_stand_side_by_side_and_views_above_each_other(make_image, algorithm):
    def shape(*views):
        images = [make_image(*view, number) for number, view in enumerate(views, start=1)]
        return draw_sheet(in_hanging_order(images), algorithm, lambda _: None).shape

    one, pair = shape(("R", "CC")), shape(("R", "CC"), ("L", "CC"))
    four = shape(("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
    repeated = shape(("R", "CC"), ("R", "CC"), ("L", "CC"))
    assert pair[1] > pair[0] > 0.5 * pair[1]
    assert one[0] > one[1]
    assert four[0] > four[1]
    assert repeated == four  # a second R CC takes a row of its own
    six = shape(("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"), ("R", "ML"), ("L", "ML"))
    assert six[1] > six[0]  # a third pair stands beside the first


def test_each_status_is_said_in_its_own_colour(make_image, algorithm):
    read = secondary_capture([make_image()], algorithm).pixel_array
    failed = secondary_capture([make_image(reason="The pixels could not be decoded.")], algorithm).pixel_array
    orange = (255, 150, 90)
    assert not (read == orange).all(axis=2).any()
    assert (failed == orange).all(axis=2).any()


def test_an_image_that_is_not_in_the_cad_report_is_named_as_such(make_image, algorithm):
    plain = secondary_capture([make_image()], algorithm).pixel_array
    other = secondary_capture([make_image(SOPClassUID=ComputedRadiographyImageStorage)], algorithm).pixel_array
    caption = slice(90, 140)
    assert (other[caption] > 100).sum() > 1.5 * (plain[caption] > 100).sum()


def test_unknown_views_hang_last(make_image):
    images = [make_image(number=1, known=False), make_image("L", "MLO", 2), make_image("R", "MLO", 3)]
    assert [image.mammogram.name for image in in_hanging_order(images)] == ["image-3", "image-2", "image-1"]


def test_a_grey_sheet_shows_the_same_in_white_with_a_black_edge(make_image, algorithm):
    image = make_image(findings=[((100, 200, 160, 280), 0.9)])
    grey = secondary_capture([image], algorithm, colour=False)
    assert (grey.PhotometricInterpretation, grey.SamplesPerPixel, grey.BitsStored) == ("MONOCHROME2", 1, 8)
    assert "PlanarConfiguration" not in grey
    pixels = grey.pixel_array
    colour = secondary_capture([image], algorithm).pixel_array
    assert pixels.shape == colour.shape[:2]
    top, left = 57 + 3 * 41, (pixels.shape[1] - round(300 * (pixels.shape[0] - 57 - 3 * 41) / 400)) // 2
    scale = (pixels.shape[0] - top) / 400
    row, edge = top + round(260 * scale), left + round(100 * scale)
    across = pixels[row, edge - 6 : edge + 8].astype(int)
    assert across.max() == 255
    white = int(np.argmax(across))
    assert across[:white].min() == across[white:].min() == 0


def test_one_image_alone(make_image, algorithm, now):
    image = make_image("L", "MLO", 4, findings=[((100, 200, 160, 280), 0.9)])
    for colour, number, samples in ((True, 9008, 3), (False, 9007, 1)):
        capture = image_capture(image, algorithm, colour=colour, now=now)
        assert (capture.SeriesNumber, capture.InstanceNumber, capture.SamplesPerPixel) == (number, 4, samples)
        assert [item.ReferencedSOPInstanceUID for item in capture.SourceImageSequence] == ["2.25.10004"]
        assert capture.ImageLaterality == "L"
        assert capture.pixel_array.max() > 200


def test_another_remark_is_another_object(make_image, algorithm):
    plain = secondary_capture([make_image()], algorithm)
    remarked = secondary_capture([make_image()], algorithm, remarks=["The CAD report could not be made."])
    assert plain.SOPInstanceUID != remarked.SOPInstanceUID
    assert plain.SeriesInstanceUID == remarked.SeriesInstanceUID


@pytest.mark.validators
def test_dciodvfy_finds_no_error(*, four_views, make_image, algorithm, now, tmp_path, dciodvfy_errors):
    path = tmp_path / "sheet.dcm"
    lossy = make_image(
        number=7,
        known=False,
        reason="The pixels could not be decoded.",
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
        LossyImageCompressionMethod="ISO_10918_1",
        BurnedInAnnotation=None,
        SpecificCharacterSet="ISO_IR 127",
        PatientName="قباني^لنزار",
    )
    for images in (four_views, [make_image()], [lossy]):
        for colour in (True, False):
            secondary_capture(images, algorithm, colour=colour, now=now).save_as(path, enforce_file_format=True)
            assert dciodvfy_errors(path) == []
            image_capture(images[0], algorithm, colour=colour, now=now).save_as(path, enforce_file_format=True)
            assert dciodvfy_errors(path) == []


def test_a_grey_picture_says_that_its_greys_are_those_to_be_shown(four_views, algorithm):
    sheet = secondary_capture(four_views, algorithm, colour=False)
    for grey in (sheet, image_capture(four_views[0], algorithm, colour=False)):
        assert (grey.PhotometricInterpretation, grey.WindowCenter, grey.WindowWidth) == ("MONOCHROME2", 128, 256)
        assert np.array_equal(apply_voi_lut(grey.pixel_array, grey).round(), grey.pixel_array)
