import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from mammoscope.imaging import Laterality, PixelSpacing, View
from mammoscope.imaging.attributes import acquisition, laterality, spacing, view, view_modifiers


def header(**attributes):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value, scheme="SCT", **nested):
    return header(CodeValue=value, CodingSchemeDesignator=scheme, **nested)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"ImageLaterality": "L"}, Laterality.LEFT),
        ({"Laterality": "R"}, Laterality.RIGHT),
        ({"ImageLaterality": "R", "Laterality": "L"}, Laterality.RIGHT),
        ({"ImageLaterality": "B"}, None),
        ({"ImageLaterality": ""}, None),
        ({"AnatomicRegionSequence": [code("80248007")]}, Laterality.LEFT),
        ({"AnatomicRegionSequence": [code("T-04020", "SRT")]}, Laterality.RIGHT),
        (
            {"AnatomicRegionSequence": [code("76752008", AnatomicRegionModifierSequence=[code("7771000")])]},
            Laterality.LEFT,
        ),
        (
            {"AnatomicRegionSequence": [code("T-04000", AnatomicRegionModifierSequence=[code("G-A100", "SRT")])]},
            Laterality.RIGHT,
        ),
        (
            {"ViewCodeSequence": [code("399162004", ViewModifierCodeSequence=[code("24028007")])]},
            Laterality.RIGHT,
        ),
        ({"AnatomicRegionSequence": [code("80248007"), code("73056007")]}, None),
        ({}, None),
    ],
)
def test_laterality(attributes, expected):
    assert laterality(header(**attributes)) is expected


def test_frame_laterality():
    frame = header(FrameAnatomySequence=[header(FrameLaterality="R")])
    assert laterality(header(SharedFunctionalGroupsSequence=[frame])) is Laterality.RIGHT


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ("MedioLateralProjection", View.ML),
        ("MedioLateralObliqueProjection", View.MLO),
        ("LateroMedial", View.LM),
        ("LateroMedialOblique", View.LMO),
        ("CranioCaudal", View.CC),
        ("CaudoCranial", View.FB),
        ("SuperolateralToInferomedialOblique", View.SIO),
        ("InferomedialToSuperolateralOblique", View.ISO),
        ("CranioCaudalExaggeratedLaterally", View.XCCL),
        ("CranioCaudalExaggeratedMedially", View.XCCM),
    ],
)
def test_every_view_of_cid_4014(concept, expected):
    # pydicom's own dictionary of the context group is the other opinion
    assert view(header(ViewCodeSequence=[code(getattr(codes.cid4014, concept).value)])) is expected


@pytest.mark.parametrize(
    ("value", "expected"), [("R-10242", View.CC), ("R-10226", View.MLO), ("R-10224", View.ML), ("R-102D0", View.SIO)]
)
def test_view_in_snomed_rt(value, expected):
    assert view(header(ViewCodeSequence=[code(value, "SRT")])) is expected


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("CC", View.CC),
        ("MLO", View.MLO),
        ("mlo", View.MLO),
        ("LMLO", View.MLO),
        ("LMO", View.LMO),
        ("L MLO", View.MLO),
        ("R-XCCL", View.XCCL),
        ("LM", View.LM),
        ("MLOID", View.MLO),
        ("AT", View.AT),
        ("CV", View.CV),
        ("AP", None),
        ("", None),
    ],
)
def test_view_position(position, expected):
    assert view(header(ViewPosition=position)) is expected


def test_view_code_wins_over_view_position():
    assert view(header(ViewPosition="MLO", ViewCodeSequence=[code("399162004")])) is View.CC


def test_unknown_view_code_leaves_view_position():
    assert view(header(ViewPosition="MLO", ViewCodeSequence=[code("1234")])) is View.MLO


def test_every_view_modifier_of_cid_4015_is_known():
    names = list(codes.cid4015.concepts)
    assert len(names) == 14
    for name in names:
        value = getattr(codes.cid4015, name)
        found = view_modifiers(
            header(ViewCodeSequence=[code("399162004", ViewModifierCodeSequence=[code(value.value)])])
        )
        assert found == (value.meaning.lower(),)


def test_view_modifiers_in_order_and_once():
    modifiers = [code("R-102D7", "SRT"), code("399163009"), code("399055006")]
    found = view_modifiers(header(ViewCodeSequence=[code("399368009", ViewModifierCodeSequence=modifiers)]))
    assert found == ("spot compression", "magnification")


def test_implant_displaced_in_the_view_position():
    assert view_modifiers(header(ViewPosition="CCID")) == ("implant displaced",)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"PixelSpacing": [0.1, 0.2], "ImagerPixelSpacing": [0.5, 0.5]}, PixelSpacing(0.1, 0.2)),
        ({"ImagerPixelSpacing": [0.1, 0.1]}, PixelSpacing(0.1, 0.1)),
        (
            {"ImagerPixelSpacing": [0.1, 0.15], "EstimatedRadiographicMagnificationFactor": 1.25},
            PixelSpacing(0.08, 0.12),
        ),
        ({"ImagerPixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": 0}, PixelSpacing(0.1, 0.1)),
        ({"NominalScannedPixelSpacing": [0.05, 0.05]}, PixelSpacing(0.05, 0.05)),
        ({"PixelSpacing": [0, 0], "NominalScannedPixelSpacing": [0.05, 0.05]}, PixelSpacing(0.05, 0.05)),
        ({"PixelSpacing": [0.1, -0.1]}, None),
        ({"PixelSpacing": None}, None),
        ({}, None),
    ],
)
def test_spacing(attributes, expected):
    found = spacing(header(**attributes))
    if expected is None:
        assert found is None
    else:
        assert (found.row_mm, found.column_mm) == pytest.approx((expected.row_mm, expected.column_mm))


def test_exposure_in_micro_is_preferred_to_the_rounded_one():
    assert acquisition(header(ExposureInuAs=90_400, Exposure=90), SecondaryCaptureImageStorage).exposure_uas == 90_400


def test_scanned_spacing_marks_digitised_film():
    assert acquisition(header(NominalScannedPixelSpacing=[0.05, 0.05]), SecondaryCaptureImageStorage).digitised_film


def test_damaged_numbers_count_as_absent():
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    dataset = Dataset()
    dataset[0x00180060] = RawDataElement(Tag(0x00180060), "DS", 4, b"2\xff,8", 0, False, True)
    assert acquisition(dataset, SecondaryCaptureImageStorage).kvp is None
