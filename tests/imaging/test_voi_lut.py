"""Expected greys are worked out by hand from PS3.3 C.11; the comments show how."""

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    SecondaryCaptureImageStorage,
)

from mammoscope.imaging import MammogramError
from mammoscope.imaging.reader import read_file
from mammoscope.imaging.voi_lut import windowed

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def lut(descriptor, data):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    return item


def greys(mammogram):
    return mammogram.pixels.ravel().tolist()


def test_linear_window_follows_the_standards_formula():
    # c 2048, w 4096 (the note of C.11.2.1.2.1): black up to 0, white above 4095, else ((x - 2047.5) / 4095 + 0.5)
    got = windowed(np.array([-1.0, 0, 1, 2048, 4094, 4095, 4096]), 2048, 4096)
    np.testing.assert_allclose(got, [0, 0, 1 / 4095, 2048 / 4095, 4094 / 4095, 1, 1], atol=1e-12)


def test_linear_window_of_width_one_is_a_threshold():
    # black up to c - 0.5, white above
    assert windowed(np.array([99.0, 99.5, 100, 101]), 100, 1).tolist() == [0, 0, 1, 1]


def test_linear_exact_window():
    # c 100, w 50: black up to 75, white above 125
    np.testing.assert_allclose(
        windowed(np.array([75.0, 87.5, 100, 125, 130]), 100, 50, "LINEAR_EXACT"), [0, 0.25, 0.5, 1, 1]
    )


def test_sigmoid_window():
    # 1 / (1 + exp(-4 (x - c) / w)): at c + w / 4 that is 1 / (1 + 1/e)
    got = windowed(np.array([100.0, 125, -1e9, 1e9]), 100, 100, "SIGMOID")
    np.testing.assert_allclose(got, [0.5, 1 / (1 + np.exp(-1)), 0, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("function", "middle"), [("LINEAR", 32776), ("LINEAR_EXACT", 32768), ("SIGMOID", 32768), (None, 32776)]
)
def test_window_of_a_file(make_mg, read, function, middle):
    # at x = c = 2048: LINEAR 2048 / 4095 * 65535 = 32775.5, to the even neighbour; the others 32767.5 likewise
    dataset = make_mg(np.array([[2048, 4095]], np.uint16), BitsStored=12, HighBit=11, **WINDOW)
    if function:
        dataset.VOILUTFunction = function
    assert greys(read(dataset))[0] == middle


def test_first_of_several_windows_is_used(make_mg, read):
    dataset = make_mg(np.array([[0, 10, 20]], np.uint16), WindowCenter=[10.5, 5000], WindowWidth=[21, 9000])
    assert greys(read(dataset)) == [0, 32768, 65535]


@pytest.mark.parametrize(
    "polarity",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_polarity_is_turned_exactly_once(make_mg, read, polarity):
    dataset = make_mg(np.array([[0, 1365, 4095]], np.uint16), **WINDOW, **polarity)
    # 1365 / 4095 is a third: a third below white
    assert greys(read(dataset)) == [65535, 43690, 0]


def test_rescale_comes_before_the_window(make_mg, read):
    # 2 x - 100: 50 -> 0, 100 -> 100, 150 -> 200; LINEAR_EXACT c 100 w 200
    dataset = make_mg(
        np.array([[50, 100, 150]], np.uint16),
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=100,
        WindowWidth=200,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert greys(read(dataset)) == [0, 32768, 65535]


def test_zero_rescale_slope_counts_as_none(make_mg, read):
    dataset = make_mg(np.array([[0, 4095]], np.uint16), RescaleSlope=0, RescaleIntercept=0, **WINDOW)
    assert greys(read(dataset)) == [0, 65535]


def test_voi_lut_is_preferred_to_the_window_and_clamps_beyond_its_ends(make_mg, read):
    # values 10..13 -> 0, 100, 200, 255 of 8 bits; 5 takes the first entry, 99 the last
    dataset = make_mg(np.array([[5, 10, 11, 12, 13, 99]], np.uint16), **WINDOW)
    dataset.VOILUTSequence = [lut([4, 10, 8], [0, 100, 200, 255])]
    assert greys(read(dataset)) == [0, 0, 25700, 51400, 65535, 65535]


def test_voi_lut_is_applied_before_polarity(make_mg, read):
    dataset = make_mg(np.array([[0, 1]], np.uint16), PhotometricInterpretation="MONOCHROME1")
    dataset.VOILUTSequence = [lut([2, 0, 16], [0, 26214])]  # 26214 is two fifths of 65535
    assert greys(read(dataset)) == [65535, 39321]


def test_voi_lut_of_signed_pixels_starts_below_zero(make_mg, read):
    dataset = make_mg(np.array([[-2, -1, 0]], np.int16))
    # 65534 is -2 in the unsigned form that a descriptor may have
    dataset.VOILUTSequence = [lut([3, 65534, 16], [7, 0, 65535])]
    assert greys(read(dataset)) == [7, 0, 65535]


@pytest.mark.parametrize("syntax", [None, ExplicitVRBigEndian])
def test_voi_lut_as_words_in_the_byte_order_of_the_file(make_mg, tmp_path, syntax):
    entries = np.array([0, 4660, 65535])
    dataset = make_mg(np.array([[0, 1, 2]], np.uint16))
    order = "<u2"
    if syntax:
        order, dataset.file_meta.TransferSyntaxUID = ">u2", syntax
        dataset.PixelData = np.array([[0, 1, 2]], ">u2").tobytes()
    dataset.VOILUTSequence = [lut([3, 0, 16], entries.astype(order).tobytes())]
    dataset.save_as(tmp_path / "mg.dcm", enforce_file_format=True)
    assert greys(read_file(tmp_path / "mg.dcm", "mg.dcm")) == [0, 4660, 65535]


def test_voi_lut_that_states_too_few_bits_is_not_clipped(make_mg, read):
    dataset = make_mg(np.array([[0, 1]], np.uint16))
    dataset.VOILUTSequence = [lut([2, 0, 8], [0, 4095])]
    assert greys(read(dataset)) == [0, 65535]


def test_voi_lut_of_twelve_bits_that_states_sixteen_reaches_white(make_mg, read):
    # 4095 is a sixteenth of 65535: the table's own maximum is white, 1365 a third of it
    dataset = make_mg(np.array([[0, 1, 2]], np.uint16))
    dataset.VOILUTSequence = [lut([3, 0, 16], [0, 1365, 4095])]
    assert greys(read(dataset)) == [0, 21845, 65535]


@pytest.mark.parametrize("broken", [Dataset(), lut([100, 0, 16], [0, 1, 2])])
def test_an_unreadable_voi_lut_gives_way_to_the_window_beside_it(make_mg, read, broken):
    dataset = make_mg(np.array([[0, 1365, 4095]], np.uint16), **WINDOW)
    dataset.VOILUTSequence = [broken]
    assert greys(read(dataset)) == [0, 21845, 65535]


def test_lut_shorter_than_its_descriptor_is_refused(make_mg, read):
    dataset = make_mg(np.array([[0, 1]], np.uint16))
    dataset.VOILUTSequence = [lut([100, 0, 16], [0, 1, 2])]
    with pytest.raises(MammogramError, match=r"mg\.dcm has a lookup table .* correct it at its source"):
        read(dataset)


def test_modality_lut_comes_before_the_window(make_mg, read):
    dataset = make_mg(np.array([[0, 1, 2]], np.uint16), WindowCenter=2048, WindowWidth=4096)
    dataset.ModalityLUTSequence = [lut([3, 0, 16], [4095, 1365, 0])]
    assert greys(read(dataset)) == [65535, 21845, 0]


def test_without_a_window_the_values_present_span_black_to_white(make_mg, read):
    assert greys(read(make_mg(np.array([[100, 150, 200]], np.uint16)))) == [0, 32768, 65535]


def test_a_window_of_no_width_counts_as_none(make_mg, read):
    dataset = make_mg(np.array([[100, 200]], np.uint16), WindowCenter=10, WindowWidth=0)
    assert greys(read(dataset)) == [0, 65535]


@pytest.mark.parametrize(("center", "width"), [(0, 1), (30000, 100), (-500, 10)])
def test_a_window_that_shows_one_grey_only_counts_as_none(make_mg, read, center, width):
    dataset = make_mg(np.array([[100, 150, 200]], np.uint16), WindowCenter=center, WindowWidth=width)
    assert greys(read(dataset)) == [0, 32768, 65535]


def test_the_next_window_is_used_where_the_first_shows_one_grey_only(make_mg, read):
    # LINEAR c 10.5 w 21 spans 0 to 20
    dataset = make_mg(np.array([[0, 10, 40]], np.uint16), WindowCenter=[30000, 10.5], WindowWidth=[1, 21])
    assert greys(read(dataset)) == [0, 32768, 65535]


def test_padding_does_not_make_a_placeholder_window_a_good_one(make_mg, read):
    dataset = make_mg(np.array([[0, 100, 150, 200]], np.uint16), WindowCenter=0, WindowWidth=1)
    dataset.add_new("PixelPaddingValue", "US", 0)
    assert greys(read(dataset)) == [0, 0, 32768, 65535]


def test_signed_pixels(make_mg, read):
    assert greys(read(make_mg(np.array([[-100, 0, 300]], np.int16)))) == [0, 16384, 65535]


@pytest.mark.parametrize("window", [{}, WINDOW])
@pytest.mark.parametrize("intent", ["FOR PRESENTATION", "FOR PROCESSING"])
def test_a_blank_image_is_refused(make_mg, read, window, intent):
    dataset = make_mg(np.full((2, 2), 700, np.uint16), PresentationIntentType=intent, **window)
    with pytest.raises(MammogramError, match=r"mg\.dcm is blank, all its pixels show one grey value"):
        read(dataset)


def test_a_blank_image_framed_by_padding_is_refused(make_mg, read):
    dataset = make_mg(np.array([[0, 700, 700, 0]], np.uint16), **WINDOW)
    dataset.add_new("PixelPaddingValue", "US", 0)
    with pytest.raises(MammogramError, match=r"mg\.dcm is blank"):
        read(dataset)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_sets_no_window(make_mg, read, photometric):
    dataset = make_mg(np.array([[4095, 100, 200, 4095]], np.uint16), PhotometricInterpretation=photometric)
    dataset.add_new("PixelPaddingValue", "US", 4095)
    white_first = photometric == "MONOCHROME1"
    assert greys(read(dataset)) == [0, 65535 * white_first, 65535 * (not white_first), 0]


def test_padding_range_holds_both_ends(make_mg, read):
    dataset = make_mg(np.array([[0, 5, 9, 10, 110]], np.uint16), PhotometricInterpretation="MONOCHROME1")
    dataset.add_new("PixelPaddingValue", "US", 9)
    dataset.add_new("PixelPaddingRangeLimit", "US", 0)
    assert greys(read(dataset)) == [0, 0, 0, 65535, 0]


def test_negative_padding_written_as_unsigned(make_mg, read):
    dataset = make_mg(np.array([[-2000, 0, 100]], np.int16))
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    assert greys(read(dataset)) == [0, 0, 65535]


def test_image_of_nothing_but_padding_is_refused(make_mg, read):
    dataset = make_mg(np.full((3, 3), 9, np.uint16))
    dataset.add_new("PixelPaddingValue", "US", 9)
    with pytest.raises(MammogramError, match=r"mg\.dcm is blank"):
        read(dataset)


def test_burnt_in_text_and_frame_do_not_set_the_window(make_mg, read):
    picture = np.tile(np.arange(100, 1100, dtype=np.uint16), (100, 1))
    picture[0] = picture[-1] = 4095  # 2 % of the image
    pixels = read(make_mg(picture)).pixels
    # 1099 is the brightest of the picture, 100 its darkest
    assert (pixels[50, 0], pixels[50, 999], pixels[0, 0]) == (0, 65535, 65535)


def test_bright_values_that_join_the_rest_do_set_the_window(make_mg, read):
    picture = np.tile(np.arange(100, 1100, dtype=np.uint16), (100, 1))
    assert read(make_mg(picture)).pixels[50, 998] == round(998 / 999 * 65535)


@pytest.fixture
def detector():
    """Raw exposure: air saturated at 16000, tissue from 200 (dense) to 3200 (skin), a frame of nothing."""
    raw = np.full((100, 100), 16000, np.uint16)
    raw[:, :50] = np.geomspace(200, 3200, 50).astype(np.uint16)
    raw[:2] = 0
    return raw


@pytest.mark.parametrize(
    "polarity",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME2", "PixelIntensityRelationshipSign": 1},
        {"PhotometricInterpretation": "MONOCHROME1", "PixelIntensityRelationshipSign": 1},
    ],
)
def test_raw_detector_values_become_bright_tissue_on_black(make_mg, read, detector, polarity):
    dataset = make_mg(
        detector,
        SOPClassUID=DigitalMammographyXRayImageStorageForProcessing,
        PresentationIntentType="FOR PROCESSING",
        PixelIntensityRelationship="LIN",
        **polarity,
    )
    dataset.add_new("PixelPaddingValue", "US", 0)
    pixels = read(dataset).pixels
    assert pixels[:2].max() == 0  # padding
    assert pixels[50, 50:].max() == 0  # air
    tissue = pixels[50, :50].astype(int)
    assert tissue[0] == 65535
    assert tissue[-1] < 0.03 * 65535
    # equal ratios of exposure are equal steps of grey once the logarithm is taken (but for whole numbers)
    assert np.diff(tissue[1:-1]).min() > -0.028 * 65535
    assert np.diff(tissue[1:-1]).max() < -0.015 * 65535


def test_raw_values_that_are_logarithmic_already_stay_linear(make_mg, read):
    raw = np.tile(np.arange(1000, 2000, dtype=np.uint16), (10, 1))
    dataset = make_mg(
        raw,
        SOPClassUID=DigitalMammographyXRayImageStorageForProcessing,
        PresentationIntentType=None,
        PixelIntensityRelationship="LOG",
    )
    mammogram = read(dataset)
    assert mammogram.acquisition.intent == "FOR PROCESSING"
    # the window runs from the 0.5 percentile 1004 to the 99.5 percentile 1994; nothing narrow enough to be background
    assert abs(int(mammogram.pixels[0, 500]) - round((1500 - 1004) / 990 * 65535)) <= 70


def test_colour_capture_becomes_luminance(make_mg, read):
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    dataset = make_mg(rgb, SOPClassUID=SecondaryCaptureImageStorage)
    # 0.299, 0.587, 0.114 of white; grey 9 is 9 * 257
    assert greys(read(dataset)) == [round(0.299 * 65535), round(0.587 * 65535), round(0.114 * 65535), 2313]


def test_colour_by_plane(make_mg, read):
    planes = np.array([[[255, 0]], [[0, 255]], [[0, 0]]], np.uint8)
    dataset = make_mg(np.zeros((1, 2, 3), np.uint8), SOPClassUID=SecondaryCaptureImageStorage, PlanarConfiguration=1)
    dataset.PixelData = planes.tobytes()
    assert greys(read(dataset)) == [round(0.299 * 65535), round(0.587 * 65535)]


def test_palette_colour_capture(make_mg, read):
    dataset = make_mg(np.array([[0, 1]], np.uint8), SOPClassUID=SecondaryCaptureImageStorage)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [2, 0, 16])
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", np.array([0, 65535], "<u2").tobytes())
    assert greys(read(dataset)) == [0, 65535]


def test_unknown_photometric_interpretation_is_refused(make_mg, read):
    with pytest.raises(MammogramError, match=r"mg\.dcm .* correct it to MONOCHROME1 or MONOCHROME2"):
        read(make_mg(np.zeros((2, 2), np.uint16), PhotometricInterpretation=None))
