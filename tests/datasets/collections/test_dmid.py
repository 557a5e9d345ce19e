import numpy as np
import pytest

from mammoscope.datasets import PatientUnknownError
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

HEADER = ["IMG_REF", "VIEW", "TISSUE", "ABNORMALITY", "CLASS", "X_COORD", "Y_COORD", "RADIUS"]
ROWS = [
    ["IMG001", "CCRT", "G", "CIRC", "B", 40, 30, 10],
    ["IMG002", "MLOLT", "D", "SPIC", "M", 20, 70, 5],
    ["IMG002", "MLOLT", "D", "CALC", "B", 50, 50, 4],
    ["IMG003", "MLORT", "F", "NORM", "-", "-", "-", "-"],
    ["IMG004", "CCLT", "F", "ARCH", "M", "-", "-", "-"],
]


def mask(*boxes):
    """As distributed: 0 and 255 in RGBA."""
    pixels = np.zeros((120, 100, 4), np.uint8)
    pixels[..., 3] = 255
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1, :3] = 255
    return pixels


@pytest.fixture
def laid(lay, grey):
    laid = lay("dmid")
    for number in range(1, 5):
        plane = grey(120, 100, "uint8")
        plane[0, 0] = number
        rgba = np.dstack([plane, plane, plane, np.full_like(plane, 255)])
        laid.picture(f"TIFF Images/TIFF Images/IMG{number:03d}.tif", rgba)
        drawn = rgba.copy()
        drawn[10:20, 10:20] = (0, 0, 255, 255)
        laid.picture(f"Pixel-level annotation/IMG{number:03d}.tif", drawn)
    # row 30 from the bottom is row 90 from the top
    laid.picture("ROI Masks/ROI Masks/IMG001.tif", mask((32, 80, 47, 101)))
    laid.picture("ROI Masks/ROI Masks/IMG002.tif", mask((15, 44, 27, 57)))
    laid.xlsx("Metadata.xlsx", [HEADER, *ROWS])
    return laid


def test_masks_tell_the_origin_and_give_the_boxes(laid):
    done = laid.bring(each_image_a_patient=True)
    images = laid.images(each_image_a_patient=True, overwrite=True)

    assert images["IMG001"].boxes == (Box(32, 80, 47, 101),)
    # the calcification has no part in the mask: its circle around (50, 120 - 50)
    assert images["IMG002"].boxes == (Box(15, 44, 27, 57), Box(46, 66, 54, 74))
    assert images["IMG002"].labels == ("Mass", "Calcification")
    assert images["IMG002"].box_facts[0]["attributes"] == {
        "class": "SPIC", "pathology": "malignant", "margins": "spiculated",
    }  # fmt: skip
    assert (images["IMG002"].laterality, images["IMG002"].view) == (Laterality.LEFT, View.MLO)
    assert images["IMG002"].facts["pathology"] == "malignant"
    assert (images["IMG003"].boxes, images["IMG003"].facts["pathology"]) == ((), "normal")
    assert images["IMG004"].review == "unannotated"
    assert dict(done.written.marks.not_outlined) == {"a lesion without a place": 1}
    assert (done.written.marks.negative, done.written.marks.unannotated) == (1, 1)


def test_masks_may_tell_the_other_origin(laid):
    laid.picture("ROI Masks/ROI Masks/IMG001.tif", mask((32, 20, 47, 41)))
    laid.picture("ROI Masks/ROI Masks/IMG002.tif", mask((15, 64, 27, 77)))
    images = laid.images(each_image_a_patient=True)
    assert images["IMG001"].boxes == (Box(32, 20, 47, 41),)
    assert images["IMG002"].boxes[1] == Box(46, 46, 54, 54)


def test_the_text_in_the_manner_of_mias_is_read_as_well(laid):
    (laid.folder / "Metadata.xlsx").unlink()
    laid.text("Info.txt", "\n".join(" ".join(map(str, row[:4] if "NORM" in row else row)) for row in ROWS[:4]))
    images = laid.images(each_image_a_patient=True)
    assert images["IMG002"].boxes == (Box(15, 44, 27, 57), Box(46, 66, 54, 74))


def test_without_masks_the_origin_is_not_guessed(laid):
    for path in (laid.folder / "ROI Masks/ROI Masks").iterdir():
        path.unlink()
    assert "put DMID's ROI masks beside the pictures" in laid.refused(each_image_a_patient=True)


def test_patients_come_from_the_dicom_copies_and_are_not_guessed(laid, grey):
    with pytest.raises(PatientUnknownError, match=r"nothing in .* says which images are of one patient"):
        laid.bring()
    for number in range(1, 5):
        laid.dicom(f"DICOM Images/IMG{number:03d}.dcm", grey(120, 100), PatientID="anonymous")
    with pytest.raises(PatientUnknownError, match=r"nothing in .* says which images are of one patient"):
        laid.bring()
    for number in range(1, 5):
        laid.dicom(f"DICOM Images/IMG{number:03d}.dcm", grey(120, 100), PatientID=f"p{number // 2}")
    assert {name: image.patient for name, image in laid.images().items()} == {
        "IMG001": "p0", "IMG002": "p1", "IMG003": "p1", "IMG004": "p2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["IMG001", "CCRT", "G", "CIRC", "B", "40,5", 30, 10], "line 2: '40,5' in column 'x' has a decimal comma"),
        (["IMG001", "CCRT", "G", "LUMP", "B", 40, 30, 10], "line 2: it names none of the classes CALC"),
        (["IMG001", "CCRT", "G", "CIRC", "B", 40, 30, 0], "line 2: the radius 0 is not positive"),
    ],
)
def test_bad_rows_are_said_with_their_line(laid, row, said):
    laid.xlsx("Metadata.xlsx", [HEADER, row, *ROWS[1:]])
    assert f"Metadata.xlsx, {said}" in laid.refused(each_image_a_patient=True)


def test_a_missing_picture_is_named(laid):
    (laid.folder / "TIFF Images/TIFF Images/IMG003.tif").unlink()
    said = laid.refused(each_image_a_patient=True)
    assert "Metadata.xlsx, line 5: the picture IMG003.tif is not in" in said
