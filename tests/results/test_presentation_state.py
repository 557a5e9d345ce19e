"""The marks as a presentation state."""

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from mammoscope.findings import Box
from mammoscope.results import ResultError, mammography_cad_sr, presentation_state, presentation_state_obstacle
from mammoscope.results.verification import concept_value, content_items, presentation_state_marks


def test_rectangles_read_back_are_the_boxes_of_the_reading(four_views, algorithm):
    state = presentation_state(four_views[0], algorithm)
    assert presentation_state_marks(state) == {
        "2.25.10001": [Box(180.25, 120.5, 240.75, 170.0), Box(200, 220, 230, 260)]
    }
    for graphic in state.GraphicAnnotationSequence[0].GraphicObjectSequence:
        assert graphic.GraphicAnnotationUnits == "PIXEL"
        assert graphic.GraphicType == "POLYLINE"
        assert graphic.NumberOfGraphicPoints == 5
        assert graphic.GraphicData[:2] == graphic.GraphicData[-2:]
        assert graphic.GraphicFilled == "N"


def test_a_mark_that_sticks_out_is_cut_at_the_edge(four_views, algorithm):
    state = presentation_state(four_views[3], algorithm)
    assert presentation_state_marks(state) == {"2.25.10004": [Box(0, 380, 40, 400)]}


@pytest.mark.parametrize(
    "box", [(0, 0, 5, 5), (295, 395, 300, 400), (0, 0, 300, 400), (298, 0, 300, 400), (140, 190, 160, 210)]
)
def test_labels_stay_inside_the_image(make_image, algorithm, box):
    state = presentation_state(make_image(findings=[(box, 0.874)]), algorithm)
    (label,) = state.GraphicAnnotationSequence[0].TextObjectSequence
    assert label.UnformattedTextValue == "Mass 87 %"
    assert label.BoundingBoxAnnotationUnits == "PIXEL"
    left, top = label.BoundingBoxTopLeftHandCorner
    right, bottom = label.BoundingBoxBottomRightHandCorner
    assert 0 <= left < right <= 300
    assert 0 <= top < bottom <= 400


def test_the_images_window_is_in_it(make_image, algorithm):
    def voi(**attributes):
        state = presentation_state(make_image(findings=[((1, 1, 9, 9), 0.5)], **attributes), algorithm)
        assert "WindowCenter" not in state
        [item] = state.SoftcopyVOILUTSequence
        return item

    linear = voi()
    assert (linear.WindowCenter, linear.WindowWidth, "VOILUTFunction" in linear) == (2048, 3000, False)
    sigmoid = voi(VOILUTFunction="SIGMOID", WindowCenter=[2048.5, 100], WindowWidth=[700, 50])
    assert (sigmoid.WindowCenter, sigmoid.WindowWidth, sigmoid.VOILUTFunction) == (2048.5, 700, "SIGMOID")
    # The table goes before the windows, as when the image is read.
    table = voi(VOILUTSequence=[lut([5, 2048, 4095], first=-2)], PixelRepresentation=1)
    assert "WindowCenter" not in table
    [item] = table.VOILUTSequence
    assert (list(item.LUTDescriptor), item["LUTDescriptor"].VR) == ([3, -2, 16], "SS")
    # 12 bits become 16.
    assert np.frombuffer(item.LUTData, "<u2").tolist() == [80, 32776, 65535]


def test_a_table_of_the_largest_size_of_signed_values(make_image, algorithm, tmp_path):
    entries = np.arange(65536) // 16
    image = make_image(
        findings=[((1, 1, 9, 9), 0.5)], VOILUTSequence=[lut(entries, first=-32768)], PixelRepresentation=1
    )
    presentation_state(image, algorithm).save_as(tmp_path / "state.dcm", enforce_file_format=True)
    [item] = dcmread(tmp_path / "state.dcm").SoftcopyVOILUTSequence[0].VOILUTSequence
    assert list(item.LUTDescriptor) == [0, -32768, 16]
    assert np.array_equal(np.frombuffer(item.LUTData, "<u2"), np.rint(entries * 65535 / 4095))


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowWidth": "0"},
        {"WindowWidth": None, "VOILUTSequence": [Dataset()]},
    ],
    ids=["none", "no width", "a broken table"],
)
def test_an_image_without_a_readable_window_has_its_marks_all_the_same(make_image, algorithm, attributes):
    state = presentation_state(make_image(findings=[((1, 1, 9, 9), 0.5)], **attributes), algorithm)
    assert "SoftcopyVOILUTSequence" not in state
    assert presentation_state_marks(state)


def lut(entries, *, first):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, 12])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return item


def test_the_rescale_is_that_of_the_image(four_views, algorithm):
    state = presentation_state(four_views[0], algorithm)
    assert (state.RescaleSlope, state.RescaleIntercept) == (1, 0)


@pytest.mark.parametrize(
    "rescale",
    [
        {"RescaleSlope": None},
        {"RescaleIntercept": None},
        {"RescaleSlope": ""},
        {"RescaleIntercept": "", "RescaleType": None},
    ],
)
def test_half_a_rescale_is_none(make_image, algorithm, rescale):
    state = presentation_state(make_image(findings=[((1, 1, 9, 9), 0.5)], **rescale), algorithm)
    assert not {"RescaleSlope", "RescaleIntercept"} & set(state.dir())


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")])
def test_polarity_is_that_of_the_image(make_image, algorithm, photometric, shape):
    image = make_image(findings=[((1, 1, 9, 9), 0.5)], PhotometricInterpretation=photometric)
    assert presentation_state(image, algorithm).PresentationLUTShape == shape


def test_tracking_identifiers_are_those_of_the_cad_report(four_views, algorithm):
    report = mammography_cad_sr(four_views, algorithm)
    tracked = [item.UID for item in content_items(report) if concept_value(item) == "112040"]
    marked = [
        graphic.TrackingUID
        for image in four_views
        if image.reading.findings
        for graphic in presentation_state(image, algorithm).GraphicAnnotationSequence[0].GraphicObjectSequence
    ]
    assert tracked == marked
    assert len(set(tracked)) == 4


def test_side_series_and_number(four_views, algorithm, make_image):
    state = presentation_state(four_views[3], algorithm)
    assert (state.Laterality, state.SeriesNumber, state.InstanceNumber, state.Modality) == ("L", 9002, 4, "PR")
    assert state.SeriesInstanceUID == presentation_state(four_views[0], algorithm).SeriesInstanceUID
    unknown = make_image(findings=[((1, 1, 9, 9), 0.5)], known=False)
    assert presentation_state(unknown, algorithm).Laterality in ("", None)


def test_images_that_have_none(make_image, algorithm):
    assert presentation_state_obstacle(make_image()) == "it has no findings"
    colour = make_image(findings=[((1, 1, 9, 9), 0.5)], SamplesPerPixel=3)
    with pytest.raises(ResultError, match="image-1 cannot have a presentation state: it is a colour image"):
        presentation_state(colour, algorithm)


@pytest.mark.validators
def test_dciodvfy_finds_no_error(*, four_views, make_image, algorithm, now, tmp_path, dciodvfy_errors):
    unusual = make_image(
        number=9,
        findings=[((1, 1, 9, 9), 0.5)],
        known=False,
        PhotometricInterpretation="MONOCHROME1",
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        StudyID=None,
        AccessionNumber=None,
    )
    table = make_image(findings=[((1, 1, 9, 9), 0.5)], VOILUTSequence=[lut(np.arange(4096), first=0)])
    sigmoid = make_image(findings=[((1, 1, 9, 9), 0.5)], VOILUTFunction="SIGMOID")
    for image in (four_views[0], four_views[3], unusual, table, sigmoid):
        path = tmp_path / "state.dcm"
        presentation_state(image, algorithm, now=now).save_as(path, enforce_file_format=True)
        assert dciodvfy_errors(path) == []
