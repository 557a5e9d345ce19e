import pytest

from mammoscope.imaging import Laterality, View

SHEET = ["ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype"]
ROWS = [
    ["D1-0001", "R", 44, 2, "calcification", "Benign", None],
    ["D2-0247", "L", 51, 2, "both", "Malignant", "Luminal B"],
    ["D2-0247", "R", 51, 2, "mass", "Benign", None],
]
CC, MLO = "399162004", "399368009"


@pytest.fixture
def laid(lay, grey):
    laid = lay("cmmd")
    for number, (patient, side, view) in enumerate(
        [
            ("D1-0001", "R", CC),
            ("D1-0001", "R", MLO),
            ("D2-0247", "L", CC),
            ("D2-0247", "R", MLO),
            ("D9-0009", "L", CC),
        ],
        1,
    ):
        laid.dicom(f"{patient}/07-18-2010-NA-NA/1-{number}.dcm", grey(80, 60), PatientID=patient, ImageLaterality=side,
                   view_code=view, SOPInstanceUID=f"1.2.{number}", StudyInstanceUID=f"1.3.{patient[-1]}1")  # fmt: skip
    laid.xlsx("CMMD_clinicaldata_revision.xlsx", [SHEET, *ROWS])
    return laid


def test_labels_of_breasts_and_no_boxes(laid):
    done = laid.bring()
    images = laid.images(overwrite=True)

    assert [image.boxes for image in images.values()] == [()] * 4
    first = images["1.2.1"]
    assert (first.patient, first.laterality, first.view) == ("D1-0001", Laterality.RIGHT, View.CC)
    assert first.facts["pathology"] == "benign"
    assert first.facts["review"] == "unannotated"
    assert images["1.2.2"].view is View.MLO
    assert images["1.2.3"].facts["attributes"] == {"abnormality": "both", "subtype": "Luminal B", "age": "51"}
    assert images["1.2.3"].facts["pathology"] == "malignant"
    assert images["1.2.4"].facts["pathology"] == "benign"
    assert "1 DICOM files are of patients whom the sheet does not name" in done.notes[0]
    assert "'unannotated'" in done.notes[1]


def test_a_breast_without_an_image_is_named_with_its_line(laid):
    (laid.folder / "D2-0247/07-18-2010-NA-NA/1-4.dcm").unlink()
    said = laid.refused()
    assert "CMMD_clinicaldata_revision.xlsx, line 4: a mammogram of the right breast there is not in" in said
    assert len(laid.dataset(partial=True)) == 3


def test_a_side_that_is_none_is_refused(laid):
    laid.xlsx("CMMD_clinicaldata_revision.xlsx", [SHEET, ["D1-0001", "both", 44, 2, "mass", "Benign", None]])
    assert "line 2: the side 'both' is neither L nor R" in laid.refused()


def test_what_is_missing_is_counted_by_breast_not_by_words(laid):
    """Two women's right breasts are two, though one sentence says both."""
    for number in (1, 2, 4):
        (laid.folder / f"{'D2-0247' if number == 4 else 'D1-0001'}/07-18-2010-NA-NA/1-{number}.dcm").unlink()
    assert "2 of 3 that the tables name are missing" in laid.bring(partial=True).notes[0]
