import numpy as np
import pytest

from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

INFO = """\
This file lists the films of the MIAS database.

mdb001 G CIRC B 535 425 197
mdb002 G CIRC B 522 280 69
mdb003 D NORM
mdb005 F CIRC B 477 133 30
mdb005 F SPIC M 500 168 26
mdb059 F CIRC B *NOTE 3*
"""


@pytest.fixture
def laid(lay):
    laid = lay("mini-mias")
    laid.text("Info.txt", INFO)
    for number in (1, 2, 3, 5, 59):
        laid.picture(f"all-mias/mdb{number:03d}.pgm", np.full((1024, 1024), number, np.uint8))
    return laid


def test_circles_are_counted_from_the_bottom_left(laid):
    done = laid.bring()
    images = laid.images(overwrite=True)

    first = images["mdb001"]
    # 1024 - 425 = 599 rows from the top
    assert first.boxes == (Box(535 - 197, 599 - 197, 535 + 197, 599 + 197),)
    assert first.box_facts[0]["attributes"] == {"class": "CIRC", "pathology": "benign", "margins": "circumscribed"}
    assert (first.patient, first.laterality, first.view) == ("001", Laterality.RIGHT, View.MLO)
    assert first.facts["attributes"] == {"tissue": "fatty-glandular"}
    assert first.facts["spacing_mm"] == 0.2
    assert first.facts["origin"] == {"file_name": "all-mias/mdb001.pgm", "rows": ["Info.txt:3"]}
    assert (images["mdb002"].patient, images["mdb002"].laterality) == ("001", Laterality.LEFT)
    assert images["mdb003"].boxes == ()
    assert images["mdb003"].facts["pathology"] == "normal"
    assert images["mdb005"].labels == ("Mass", "Mass")
    assert images["mdb005"].facts["pathology"] == "malignant"
    # a lesion without a place is no image without a lesion
    assert images["mdb059"].review == "unannotated"
    assert dict(done.written.marks.not_outlined) == {"a lesion without a place": 1}
    assert (done.written.marks.with_boxes, done.written.marks.negative, done.written.marks.unannotated) == (3, 1, 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mdb001 G CIRC B 535 425", "after the class come B or M, x, y and a radius"),
        ("mdb001 G CIRC B 535 425 0", "the radius 0 is not positive"),
        ("mdb001 G CIRC B 535,5 425 197", "'535,5' in column 'x' has a decimal comma"),
        ("mdb001 G LUMP B 535 425 197", "the class 'LUMP' is none of"),
    ],
)
def test_bad_lines_are_named(laid, line, said):
    laid.text("Info.txt", INFO.replace("mdb001 G CIRC B 535 425 197", line))
    assert f"Info.txt, line 3: {said}" in laid.refused()


def test_a_missing_picture_is_named_with_its_line(laid):
    (laid.folder / "all-mias/mdb003.pgm").unlink()
    assert "Info.txt, line 5: mdb003.pgm is not in" in laid.refused()


def test_a_folder_without_the_text_is_refused(laid):
    (laid.folder / "Info.txt").unlink()
    assert "holds no text of mini-MIAS" in laid.refused()
