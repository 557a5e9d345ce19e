import plistlib

import numpy as np
import pytest

from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

# the sheet as distributed, with the blank after 'Mass '
SHEET = ["Patient ID", "Patient age", "Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads", "Mass ",
         "Micros", "Distortion", "Asymmetry", "Findings Notes (in Portuguese)"]  # fmt: skip
CSV = SHEET[:8]
ROWS = [
    ["removed", "removed", "R", "CC", "201001", 22678622, "4", "4a"],
    ["removed", "removed", "L", "MLO", "201001", 22678646, "     ", "1"],
    ["removed", "removed", "R", "MLO", "201001", 22678980, "2", "6"],
]
FILES = ["22678622_61a13b9b1cbf6f3a_MG_R_CC_ANON", "22678646_61a13b9b1cbf6f3a_MG_L_ML_ANON",
         "22678980_036aff49b8ac84f0_MG_R_ML_ANON"]  # fmt: skip


def plist(*regions):
    rois = [{"Name": name, "NumberOfPoints": len(points), "Point_px": [f"({x:f}, {y:f})" for x, y in points]}
            for name, points in regions]  # fmt: skip
    return plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": rois}]})


@pytest.fixture
def laid(lay, grey):
    laid = lay("inbreast")
    for stem in FILES:
        laid.dicom(f"AllDICOMs/{stem}.dcm", grey(80, 60), ImagerPixelSpacing=[0.07, 0.07], Manufacturer="SIEMENS")
    laid.place("AllXML/22678622.xml").write_bytes(
        plist(
            ("Mass", [(10, 20), (30.5, 22), (25, 40.25), (12, 35)]),
            ("Calcification", [(5, 5)]),
            ("Cluster", [(40, 40), (50, 40), (50, 60)]),
            ("Assymetry", [(1, 1), (4, 1), (4, 6)]),
            ("Point 1", [(3, 3)]),
            ("Unnamed", [(1, 1), (4, 1), (4, 6)]),
        )
    )
    laid.place("AllXML/22678980.xml").write_bytes(plist(("Espiculated Region", [(10, 10), (20, 10), (20, 30)])))
    laid.csv("INbreast.csv", CSV, ROWS, delimiter=";")
    return laid


def test_contours_table_and_names_make_images(laid):
    done = laid.bring()
    images = {image.path.stem[:8]: image for image in laid.dataset(overwrite=True)}

    first = images["22678622"]
    assert first.boxes == (Box(10, 20, 30.5, 40.25), Box(40, 40, 50, 60), Box(1, 1, 4, 6))
    assert first.labels == ("Mass", "Calcification", "Asymmetry")
    assert first.box_facts[0]["segmentation"] == [[10, 20, 30.5, 22, 25, 40.25, 12, 35]]
    assert first.facts["attributes"] == {"birads": "4A", "points": 2}
    assert first.facts["density"] == 4
    assert (first.facts["spacing_mm"], first.facts["scanner"]) == (0.07, "SIEMENS")
    assert (first.laterality, first.view) == (Laterality.RIGHT, View.CC)
    # the patient is not in the table but in the file's name
    assert [images[name].patient for name in ("22678622", "22678646", "22678980")] == [
        "61a13b9b1cbf6f3a", "61a13b9b1cbf6f3a", "036aff49b8ac84f0",
    ]  # fmt: skip
    assert images["22678646"].boxes == ()
    assert "density" not in images["22678646"].facts
    assert images["22678646"].view is View.MLO
    assert images["22678980"].labels == ("Spiculated region",)
    assert done.notes == (
        "2 contours are single points without an area, most of them calcifications: not boxes.",
        "1 contours carry no name of a lesion and were left out.",
    )


def test_the_sheet_is_read_as_well(laid):
    (laid.folder / "INbreast.csv").unlink()
    # sums and remarks follow the rows, and numbers are floats in a sheet
    rows = [[*row, "X", "", "", "", "nódulo"] for row in ROWS]
    laid.xlsx("INbreast.xlsx", [SHEET, *rows, [None] * 5 + ["total", 410]])
    assert len(laid.dataset()) == 3


def test_a_cut_contour_file_is_named_with_its_line(laid):
    path = laid.folder / "AllXML/22678622.xml"
    path.write_bytes(path.read_bytes()[:400])
    said = laid.refused()
    assert "22678622.xml, line" in said
    assert "cut or damaged" in said


def test_a_point_that_is_none_is_named(laid):
    laid.place("AllXML/22678980.xml").write_bytes(
        plistlib.dumps({"Images": [{"ROIs": [{"Name": "Mass", "Point_px": ["(1, 2)", "(3; 4)", "(5, 6)"]}]}]})
    )
    assert "22678980.xml: a contour has the point '(3; 4)'" in laid.refused()


def test_a_missing_image_is_named_with_its_line(laid):
    (laid.folder / f"AllDICOMs/{FILES[1]}.dcm").unlink()
    assert "INbreast.csv, line 3: the DICOM file 22678646_….dcm is not in" in laid.refused()


def test_the_tables_without_the_images_are_told_so(laid):
    for stem in FILES:
        (laid.folder / f"AllDICOMs/{stem}.dcm").unlink()
    for options in ({}, {"partial": True}):
        assert "nor is any other image that the tables name: name the folder that" in laid.refused(**options)


def test_a_table_of_another_encoding_is_named_with_its_line(laid):
    path = laid.folder / "INbreast.csv"
    text = path.read_text().replace("201001;22678646", "março;22678646")
    path.write_bytes(text.encode("latin-1"))
    assert "INbreast.csv, line 3: the text is not UTF-8" in laid.refused()


def test_without_its_contours_an_image_is_negative_only_where_the_sheet_says_so(laid):
    """The whole collection without AllXML: what the sheet marks is compared with the contours."""
    for path in (laid.folder / "AllXML").iterdir():
        path.unlink()
    (laid.folder / "INbreast.csv").unlink()
    rows = [[*ROWS[0], "X", "X", "", "", ""], [*ROWS[1], "", "", "", "", ""], [*ROWS[2], "", "", "", "X", ""]]
    laid.xlsx("INbreast.xlsx", [SHEET, *rows])

    done = laid.bring()
    images = {image.path.stem[:8]: image for image in laid.dataset(overwrite=True)}

    assert {name: image.review for name, image in images.items()} == {
        "22678622": "unannotated", "22678646": "annotated", "22678980": "unannotated",
    }  # fmt: skip
    counts = done.written.marks
    assert (counts.with_boxes, counts.negative, counts.unannotated) == (0, 1, 2)
    assert counts.not_outlined.total() == 3
    assert "On 2 images the table says a lesion that no contour shows" in done.notes[-1]


def test_a_table_that_marks_no_kinds_and_no_contours_leave_all_but_birads_1_unannotated(laid):
    for path in (laid.folder / "AllXML").iterdir():
        path.unlink()
    images = {image.path.stem[:8]: image.review for image in laid.dataset()}
    assert images == {"22678622": "unannotated", "22678646": "annotated", "22678980": "unannotated"}


def test_pictures_of_another_size_have_scaled_contours(laid, grey):
    for path in (laid.folder / "AllDICOMs").iterdir():
        path.unlink()
    for stem in FILES:
        laid.picture(f"AllPNG/{stem}.png", grey(416, 320, np.uint8))  # an eighth of 3328 x 2560
    laid.place("AllXML/22678622.xml").write_bytes(plist(("Mass", [(80, 160), (240, 160), (240, 320)])))

    done = laid.bring()
    images = {image.path.stem[:8]: image for image in laid.dataset(overwrite=True)}

    assert images["22678622"].boxes == (Box(10, 20, 30, 40),)
    assert images["22678622"].patient == "61a13b9b1cbf6f3a"
    assert "3 pictures are of another size than INbreast's images" in " ".join(done.notes)
