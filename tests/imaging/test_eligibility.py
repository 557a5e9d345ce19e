import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from mammoscope.imaging import PresentationIntent
from mammoscope.imaging.eligibility import Ineligibility, expected_views_present, why_not_read
from mammoscope.inference import BundleInput
from mammoscope.phantom import screening_study

PRESENTATION = (PresentationIntent.FOR_PRESENTATION,)


def dataset(**attributes):
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def code(value, **nested):
    return dataset(CodeValue=value, CodingSchemeDesignator="SCT", **nested)


def header(**changes):
    """A left CC mammogram for presentation; ``None`` takes an attribute away."""
    attributes = {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "PresentationIntentType": "FOR PRESENTATION",
        "ImageType": ["ORIGINAL", "PRIMARY", ""],
        "ImageLaterality": "L",
        "ViewPosition": "CC",
        "BreastImplantPresent": "NO",
        "EstimatedRadiographicMagnificationFactor": "1.07",
        "PartialView": "NO",
        "Rows": 3328,
        "Columns": 2560,
        **changes,
    }
    return dataset(**{keyword: value for keyword, value in attributes.items() if value is not None})


def cc_view(*modifiers):
    return [code("399162004", ViewModifierCodeSequence=[code(value) for value in modifiers])]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ViewPosition": None, "ViewCodeSequence": [code("399368009")]},
        {"ViewCodeSequence": cc_view()},
        {"ImageLaterality": None, "Laterality": "R"},
        {"BreastImplantPresent": "YES", "ViewCodeSequence": cc_view("399209000")},
        {"BreastImplantPresent": "YES", "ViewPosition": "CCID"},
        {"ViewCodeSequence": cc_view("399161006")},  # cleavage
        {"EstimatedRadiographicMagnificationFactor": "1.2"},
        {"EstimatedRadiographicMagnificationFactor": None, "PartialView": None, "BreastImplantPresent": None},
        {"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]},
        {"ImageType": ["DERIVED", "PRIMARY", "POST_CONTRAST", "", "LOW_ENERGY"]},
        {"ImageType": "ORIGINAL"},
        {"ImageType": None, "Rows": None, "Columns": None},
        {"SOPClassUID": SecondaryCaptureImageStorage, "PresentationIntentType": None},
    ],
)
def test_a_standard_view_is_read(changes):
    assert why_not_read(header(**changes), PRESENTATION) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SOPClassUID": BreastTomosynthesisImageStorage}, Ineligibility.TOMOSYNTHESIS),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "TOMO_PROJ"]}, Ineligibility.TOMOSYNTHESIS),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"]}, Ineligibility.TOMOSYNTHESIS),
        ({"ViewCodeSequence": [code("127457009")]}, Ineligibility.SPECIMEN),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "STEREO_SCOUT"]}, Ineligibility.BIOPSY),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "POSTMARKER"]}, Ineligibility.BIOPSY),
        ({"BiopsyTargetSequence": [dataset(TargetLabel="1")]}, Ineligibility.BIOPSY),
        ({"ImageType": ["DERIVED", "PRIMARY", "POST_CONTRAST", "SUBTRACTION"]}, Ineligibility.CONTRAST),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "POST_CONTRAST", "", "HIGH_ENERGY"]}, Ineligibility.CONTRAST),
        # GE writes RECOMBINED and LOW_ENERGY into value 4; others put their words elsewhere and spell them otherwise.
        ({"ImageType": ["DERIVED", "PRIMARY", "", "RECOMBINED"]}, Ineligibility.CONTRAST),
        ({"ImageType": ["DERIVED", "PRIMARY", "RECOMBINED"]}, Ineligibility.CONTRAST),
        ({"ImageType": ["DERIVED", "PRIMARY", "POST_CONTRAST", "NONE", "SUBTRACTED"]}, Ineligibility.CONTRAST),
        ({"ImageType": ["DERIVED", "PRIMARY", "", "High Energy "]}, Ineligibility.CONTRAST),
        ({"ImageType": ["DERIVED", "PRIMARY", "", "", "", "Iodine-Map"]}, Ineligibility.CONTRAST),
        (
            {"SOPClassUID": BreastTomosynthesisImageStorage, "ImageType": ["DERIVED", "PRIMARY", "", "GENERATED_2D"]},
            Ineligibility.SYNTHESISED_IN_TOMOSYNTHESIS,
        ),
        ({"BreastImplantPresent": " yes"}, Ineligibility.IMPLANT),
        ({"PartialView": "Yes "}, Ineligibility.PARTIAL_VIEW),
        ({"Rows": 63}, Ineligibility.SIZE),
        ({"Rows": 16384, "Columns": 8193}, Ineligibility.SIZE),  # 2**14 rows and 2**13 + 1 columns: above 2**27
        ({"PresentationIntentType": "FOR PROCESSING"}, Ineligibility.FOR_PROCESSING),
        (
            {"PresentationIntentType": None, "SOPClassUID": DigitalMammographyXRayImageStorageForProcessing},
            Ineligibility.FOR_PROCESSING,
        ),
        ({"BreastImplantPresent": "YES"}, Ineligibility.IMPLANT),
        ({"ViewCodeSequence": cc_view("399163009")}, Ineligibility.MAGNIFICATION),
        ({"EstimatedRadiographicMagnificationFactor": "1.5"}, Ineligibility.MAGNIFICATION),
        ({"ViewCodeSequence": cc_view("399055006")}, Ineligibility.SPOT_COMPRESSION),
        ({"ViewModifierCodeSequence": [code("399055006")]}, Ineligibility.SPOT_COMPRESSION),
        ({"ViewCodeSequence": cc_view("399055006", "399163009")}, Ineligibility.MAGNIFICATION),
        ({"PartialView": "YES"}, Ineligibility.PARTIAL_VIEW),
        ({"ImageLaterality": None}, Ineligibility.NO_LATERALITY),
        ({"ImageLaterality": "B"}, Ineligibility.NO_LATERALITY),
        ({"ViewPosition": None}, Ineligibility.NO_VIEW),
        ({"ViewPosition": "AP"}, Ineligibility.NO_VIEW),
        # The weightiest reason is the one that is told
        ({"ViewCodeSequence": [code("127457009")], "ImageLaterality": None}, Ineligibility.SPECIMEN),
        ({"PresentationIntentType": "FOR PROCESSING", "BreastImplantPresent": "YES"}, Ineligibility.FOR_PROCESSING),
    ],
)
def test_why_not_read(changes, reason):
    assert why_not_read(header(**changes), PRESENTATION) is reason


def test_the_bundle_says_what_intent_it_reads():
    processing = header(PresentationIntentType="FOR PROCESSING")
    silent = BundleInput.model_validate({"rows": 64, "columns": 32, "crop": "breast"})
    assert why_not_read(processing, silent.intents) is None
    assert why_not_read(header(), silent.intents) is None

    raw = BundleInput.model_validate({"rows": 64, "columns": 32, "crop": "breast", "intents": ["FOR PROCESSING"]})
    assert why_not_read(processing, raw.intents) is None
    assert why_not_read(header(), raw.intents) is Ineligibility.FOR_PRESENTATION


def test_a_damaged_element_hides_no_reason():
    damaged = header(ImageLaterality=None, BreastImplantPresent="YES")
    damaged[0x00181114] = RawDataElement(BaseTag(0x00181114), "DS", 8, b"twofold ", 0, False, True)
    assert why_not_read(damaged) is Ineligibility.IMPLANT


def test_an_empty_header_says_nothing():
    assert why_not_read(Dataset()) is Ineligibility.NO_LATERALITY


@pytest.mark.parametrize("reason", Ineligibility)
def test_each_reason_is_one_sentence(reason):
    assert reason.sentence.endswith(".")
    assert reason.sentence.count(".") == 1


def test_codes_are_those_of_the_standard():
    coded = {reason: reason.code.value for reason in Ineligibility if reason.code}
    assert coded == {
        Ineligibility.IMPLANT: "40388003",
        Ineligibility.MAGNIFICATION: "399163009",
        Ineligibility.SPOT_COMPRESSION: "399055006",
        Ineligibility.SPECIMEN: "127457009",
    }


EXPECTED = ("RCC", "LCC", "RMLO", "LMLO")


def test_expected_views():
    study = [image.dataset for image in screening_study(1, rows=128, columns=96).images]
    assert expected_views_present(study, EXPECTED)
    assert expected_views_present(iter(study), ["LCC"])
    assert not expected_views_present(study[:3], EXPECTED)
    assert not expected_views_present(study, [*EXPECTED, "LML"])
    assert not expected_views_present(study, [])
    assert not expected_views_present([], EXPECTED)


def test_a_special_view_does_not_stand_for_an_expected_one():
    spot = header(ViewCodeSequence=cc_view("399055006"))
    assert not expected_views_present([spot], ["LCC"])
    assert expected_views_present([spot, header()], ["LCC"])
    assert not expected_views_present([header(PresentationIntentType="FOR PROCESSING")], ["LCC"], PRESENTATION)


def test_a_low_energy_image_is_a_plain_one():
    for image_type in (
        ["ORIGINAL", "PRIMARY", "", "LOW_ENERGY"],
        ["ORIGINAL", "PRIMARY", "POST_CONTRAST", "", "LOW_ENERGY"],
    ):
        assert why_not_read(header(ImageType=image_type), PRESENTATION) is None


def test_a_tomosynthesis_that_hologic_packs_into_a_secondary_capture_is_one():
    packed = header(SOPClassUID=SecondaryCaptureImageStorage)
    packed.add_new(0x7E010010, "LO", "HOLOGIC, Inc.")
    packed.add_new(0x7E011010, "SQ", [Dataset()])
    assert why_not_read(packed, PRESENTATION) is Ineligibility.TOMOSYNTHESIS
    packed.ImageLaterality = None
    assert why_not_read(packed) is Ineligibility.TOMOSYNTHESIS


def test_enumerated_values_are_read_whatever_their_case_and_padding():
    said = header(ImageLaterality="l ", ViewPosition=" mlo", PresentationIntentType="for presentation ")
    assert why_not_read(said, PRESENTATION) is None
