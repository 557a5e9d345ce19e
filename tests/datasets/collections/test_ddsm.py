import cv2
import gdcm
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames

from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

ICS = """\
ics_version 1.0
filename A-1141-1
DATE_OF_STUDY 5 9 1996
PATIENT_AGE 60
FILM
FILM_TYPE REGULAR
DENSITY 3
DATE_DIGITIZED 18 9 1997
DIGITIZER HOWTEK
SEQUENCE
LEFT_CC LINES 80 PIXELS_PER_LINE 60 BITS_PER_PIXEL 12 RESOLUTION 43.5 OVERLAY
RIGHT_MLO LINES 80 PIXELS_PER_LINE 60 BITS_PER_PIXEL 12 RESOLUTION 43.5 NON_OVERLAY
"""

# A square from (10, 20): 5 right, 3 down, 5 left, 3 up; its core is smaller. Then a step of each diagonal.
OVERLAY = """\
TOTAL_ABNORMALITIES 2
ABNORMALITY 1
LESION_TYPE MASS SHAPE IRREGULAR MARGINS SPICULATED
ASSESSMENT 5
SUBTLETY 4
PATHOLOGY MALIGNANT
TOTAL_OUTLINES 2
BOUNDARY
10 20 2 2 2 2 2 4 4 4 6 6 6 6 6 0 0 0 #
CORE
12 21 2 4 6 0 #
ABNORMALITY 2
LESION_TYPE CALCIFICATION TYPE PUNCTATE DISTRIBUTION CLUSTERED
ASSESSMENT 3
SUBTLETY 2
PATHOLOGY BENIGN
TOTAL_OUTLINES 2
BOUNDARY
30 40 1 3 5 7 #
BOUNDARY
40 60 2 4 6 0 #
"""


@pytest.fixture
def laid(lay, grey):
    laid = lay("ddsm")
    laid.text("case1141/A-1141-1.ics", ICS)
    laid.text("case1141/A_1141_1.LEFT_CC.OVERLAY", OVERLAY)
    for view in ("LEFT_CC", "RIGHT_MLO"):
        laid.picture(f"case1141/A_1141_1.{view}.png", grey(80, 60))
    return laid


def test_chain_codes_make_boxes_around_their_pixels(laid):
    images = laid.images()

    left = images["A_1141_1.LEFT_CC"]
    # columns 10 to 15 and rows 20 to 23, each pixel whole
    mass = Box(10, 20, 16, 24)
    # from (30, 40): (31, 39), (32, 40), (31, 41), (30, 40)
    diamond = Box(30, 39, 33, 42)
    assert left.boxes == (mass, diamond, Box(40, 60, 42, 62))
    assert left.labels == ("Mass", "Calcification", "Calcification")
    assert left.box_facts[0]["attributes"] == {
        "shape": "IRREGULAR", "margins": "SPICULATED", "birads": "5", "subtlety": "4", "pathology": "malignant",
    }  # fmt: skip
    assert left.box_facts[2]["attributes"]["type"] == "PUNCTATE"
    assert (left.patient, left.laterality, left.view) == ("A-1141-1", Laterality.LEFT, View.CC)
    assert (left.facts["density"], left.facts["scanner"], left.facts["pathology"]) == (3, "film HOWTEK", "malignant")
    assert left.facts["spacing_mm"] == pytest.approx(0.0435)
    right = images["A_1141_1.RIGHT_MLO"]
    assert right.boxes == ()
    assert right.facts["pathology"] == "normal"


def test_a_smaller_picture_of_the_same_shape_has_its_boxes_scaled(laid, grey):
    laid.picture("case1141/A_1141_1.LEFT_CC.png", grey(40, 30))
    done = laid.bring()
    image = laid.images(overwrite=True)["A_1141_1.LEFT_CC"]
    assert image.boxes[0] == Box(5, 10, 8, 12)
    assert image.facts["spacing_mm"] == pytest.approx(0.087)
    assert done.notes[0].startswith("1 pictures are smaller or larger than their film")


def test_a_picture_of_another_shape_is_refused(laid, grey):
    laid.picture("case1141/A_1141_1.LEFT_CC.png", grey(60, 60))
    said = laid.refused()
    assert (
        "A-1141-1.ics, line 11: the film has 80 rows and 60 columns there but A_1141_1.LEFT_CC.png has 60 and 60"
        in said
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("30 40 1 3 5 7 #", "30 40 1 9 5 7 #", "OVERLAY, line 19: an outline is a column, a row, steps"),
        ("30 40 1 3 5 7 #", "30 40 #", "OVERLAY, line 19: an outline is"),
        ("30 40 1 3 5 7 #", "30 40 1 12 5 7 #", "OVERLAY, line 19: an outline is"),
        ("30 40 1 3 5 7 #", "30 40 1 3", "OVERLAY, line 19: an outline is"),
        ("TOTAL_ABNORMALITIES 2", "TOTAL_ABNORMALITIES 3", "it states 3 abnormalities and outlines 2"),
        ("ABNORMALITY 1\n", "", "OVERLAY, line 8: an outline comes before the first ABNORMALITY"),
    ],
)
def test_a_damaged_overlay_is_named(laid, old, new, said):
    laid.text("case1141/A_1141_1.LEFT_CC.OVERLAY", OVERLAY.replace(old, new))
    assert said in laid.refused()


def test_a_missing_overlay_is_named(laid):
    (laid.folder / "case1141/A_1141_1.LEFT_CC.OVERLAY").unlink()
    assert "ics, line 11: A_1141_1.LEFT_CC.OVERLAY, which it names, is not there" in laid.refused()


def test_a_missing_picture_is_named(laid):
    (laid.folder / "case1141/A_1141_1.RIGHT_MLO.png").unlink()
    said = laid.refused()
    assert (
        "ics, line 12: A_1141_1.RIGHT_MLO.LJPEG or a picture converted from it, such as A_1141_1.RIGHT_MLO.png" in said
    )


def lossless_jpeg(laid, pixels) -> bytes:
    """A bare stream of lossless JPEG, as gdcm codes it."""
    plain = laid.dicom("plain.dcm", pixels, BitsStored=12, HighBit=11)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(plain))
    assert writer.Write()
    stream = next(generate_frames(dcmread(plain).PixelData, number_of_frames=1))
    plain.unlink()
    return stream


def test_lossless_jpeg_is_decoded_to_the_same_values(laid):
    pixels = np.random.default_rng(3).integers(0, 4096, (80, 60)).astype(np.uint16)
    laid.place("case1141/A_1141_1.LEFT_CC.LJPEG").write_bytes(lossless_jpeg(laid, pixels))
    (laid.folder / "case1141/A_1141_1.LEFT_CC.png").unlink()

    image = laid.images()["A_1141_1.LEFT_CC"]

    assert np.array_equal(cv2.imread(str(image.path), cv2.IMREAD_UNCHANGED), pixels)
    assert image.boxes[0] == Box(10, 20, 16, 24)
    assert sorted(path.name for path in laid.out.parent.iterdir()) == ["collection", "out"]


@pytest.mark.parametrize(
    ("rows", "cut", "said"), [(70, None, "has 70 rows"), (80, 700, "cut short"), (80, 8, "is no lossless JPEG")]
)
def test_an_unreadable_ljpeg_says_what_to_do(laid, rows, cut, said):
    pixels = np.random.default_rng(3).integers(0, 4096, (rows, 60)).astype(np.uint16)
    laid.place("case1141/A_1141_1.LEFT_CC.LJPEG").write_bytes(lossless_jpeg(laid, pixels)[:cut])
    (laid.folder / "case1141/A_1141_1.LEFT_CC.png").unlink()
    sentence = laid.refused()
    assert said in sentence
    assert "convert it to PNG with the decoder that comes with DDSM" in sentence
