"""The marks as a presentation state."""

import pytest

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


def test_the_readers_window_survives(four_views, algorithm):
    state = presentation_state(four_views[0], algorithm)
    assert "WindowCenter" in four_views[0].header
    assert "SoftcopyVOILUTSequence" not in state
    assert "WindowCenter" not in state
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
    for image in (four_views[0], four_views[3], unusual):
        path = tmp_path / "state.dcm"
        presentation_state(image, algorithm, now=now).save_as(path, enforce_file_format=True)
        assert dciodvfy_errors(path) == []
