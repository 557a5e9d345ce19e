import shutil

import numpy as np
import pytest

from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

FINDINGS = ["study_id", "series_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads",
            "breast_density", "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax",
            "split"]  # fmt: skip
BREASTS = ["study_id", "series_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads",
           "breast_density", "split"]  # fmt: skip
METADATA = ["SOP Instance UID", "Series Instance UID", "Patient's Age", "Manufacturer", "Manufacturer's Model Name",
            "Photometric Interpretation", "Imager Pixel Spacing", "Window Center", "Window Width"]  # fmt: skip

ONE = ["s1", "r1", "aaa", "L", "CC", 80, 60, "BI-RADS 4", "DENSITY C"]
TWO = ["s1", "r1", "bbb", "R", "MLO", 80, 60, "BI-RADS 1", "DENSITY C"]
THREE = ["s2", "r2", "ccc", "L", "CC", 80, 60, "BI-RADS 2", "DENSITY B"]
ROWS = [
    [*ONE, "['Mass', 'Suspicious Calcification']", "BI-RADS 4", "10.5", "20.25", "30.0", "45.75", "training"],
    [*ONE, "['Focal Asymmetry']", "BI-RADS 3", "1.0", "2.0", "9.0", "12.0", "training"],
    [*TWO, "['No Finding']", "", "", "", "", "", "training"],
    [*THREE, "['Nipple Retraction']", "BI-RADS 3", "5.0", "5.0", "15.0", "25.0", "test"],
]


@pytest.fixture
def laid(lay, grey):
    laid = lay("vindr-mammo")
    for study, image in (("s1", "aaa"), ("s1", "bbb"), ("s2", "ccc"), ("s2", "ddd")):
        laid.dicom(f"images/{study}/{image}.dicom", grey(80, 60), ImagerPixelSpacing=[0.085, 0.085],
                   Manufacturer="IMS", ManufacturerModelName="GIOTTO")  # fmt: skip
    laid.csv("finding_annotations.csv", FINDINGS, ROWS)
    four = ["s2", "r2", "ddd", "R", "CC", 80, 60, "BI-RADS 1", "DENSITY B"]
    breasts = ((ONE, "training"), (TWO, "training"), (THREE, "test"), (four, "test"))
    laid.csv("breast-level_annotations.csv", BREASTS, [[*row, split] for row, split in breasts])
    laid.csv("metadata.csv", METADATA, [["aaa", "r1", "050Y", "IMS", "GIOTTO", "MONOCHROME2", "[0.085, 0.085]", 1, 2]])
    return laid


def test_findings_breasts_and_split(laid):
    images = laid.images()

    first = images["aaa"]
    assert first.boxes == (Box(10.5, 20.25, 30, 45.75), Box(1, 2, 9, 12))
    assert first.labels == ("Mass", "Asymmetry")
    assert first.box_facts[0]["attributes"] == {"categories": "Mass, Suspicious Calcification", "birads": "4"}
    assert first.facts["density"] == 3
    assert first.facts["attributes"] == {"birads": "4"}
    assert (first.facts["scanner"], first.facts["spacing_mm"]) == ("IMS GIOTTO", 0.085)
    assert (first.patient, first.split, first.laterality, first.view) == ("s1", "train", Laterality.LEFT, View.CC)
    assert images["bbb"].boxes == ()
    assert images["ccc"].labels == ("Nipple Retraction",)
    assert images["ccc"].split == "test"
    # an image that only the breast-level table has
    assert images["ddd"].boxes == ()
    assert images["ddd"].split == "test"
    assert laid.dataset(overwrite=True).category_ids["Mass"] == 1


def test_a_size_that_is_not_the_files_is_refused(laid):
    laid.csv("finding_annotations.csv", FINDINGS, [[*ROWS[0][:5], 60, 80, *ROWS[0][7:]], *ROWS[1:]])
    assert "line 2: the image has 60 rows and 80 columns there but 80 and 60 in its file" in laid.refused()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("xmin", "10,5", "line 2: '10,5' in column 'xmin' has a decimal comma"),
        ("xmin", "ten", "line 2: 'ten' in column 'xmin' is not a number"),
        ("xmin", "nan", "line 2: 'nan' in column 'xmin' is not a finite number"),
        ("finding_categories", "Mass", "line 2: the finding categories 'Mass' are no list"),
        ("finding_categories", "[__import__('os')]", "line 2: the finding categories"),
        ("split", "val", "line 2: the split 'val' is neither"),
        ("image_id", "", "line 2: column 'image_id' is empty"),
    ],
)
def test_bad_cells_are_said_with_their_line(laid, column, value, said):
    row = list(ROWS[0])
    row[FINDINGS.index(column)] = value
    laid.csv("finding_annotations.csv", FINDINGS, [row, *ROWS[1:]])
    assert f"finding_annotations.csv, {said}" in laid.refused()


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (("100", "100", "120", "120"), "a finding outside its image"),
        (("31", "20", "30", "45"), "a finding whose box has no area"),
        (("", "", "", ""), "a finding without a box"),
    ],
)
def test_a_finding_without_a_place_leaves_its_image_unannotated(laid, box, said):
    row = [*ROWS[1][:11], *box, "training"]
    laid.csv("finding_annotations.csv", FINDINGS, [ROWS[0], row, *ROWS[2:]])
    found, counts = laid.unannotated("aaa")
    assert found == {"not_outlined": {said: 1}}
    assert counts.first[said] == "finding_annotations.csv:3"


def test_pictures_of_the_images_are_read_if_their_shape_is_the_same(laid, grey):
    """As the copies that are passed around have them: PNG, whole or made smaller."""
    for path in (laid.folder / "images").rglob("*.dicom"):
        path.unlink()
    laid.picture("images_png/s1/aaa.png", grey(40, 30, np.uint8))
    for study, image in (("s1", "bbb"), ("s2", "ccc"), ("s2", "ddd")):
        laid.picture(f"images_png/{study}/{image}.png", grey(80, 60, np.uint8))

    done = laid.bring()
    images = laid.images(overwrite=True)

    assert images["aaa"].boxes[0] == Box(5.25, 10.125, 15, 22.875)
    assert images["ccc"].boxes == (Box(5, 5, 15, 25),)
    assert "1 pictures are of another size than their originals and of the same shape" in done.notes[0]
    assert (done.written.marks.with_boxes, done.written.marks.negative) == (2, 2)
    laid.picture("images_png/s1/aaa.png", grey(40, 40, np.uint8))
    (laid.out / "annotations.json").unlink()
    shutil.rmtree(laid.out)
    assert "the image has 80 rows and 60 columns there but 40 and 40 in its file" in laid.refused()


def test_a_semicolon_table_of_decimal_commas_is_refused(laid):
    rows = [[str(cell).replace(".", ",") for cell in row] for row in ROWS]
    laid.csv("finding_annotations.csv", FINDINGS, rows, delimiter=";")
    assert "line 2: '10,5' in column 'xmin' has a decimal comma" in laid.refused()


def test_a_missing_column_is_refused(laid):
    laid.csv("finding_annotations.csv", FINDINGS[:-1], [row[:-1] for row in ROWS])
    assert (
        "finding_annotations.csv, line 1: this table of findings of VinDr-Mammo has no column 'split'" in laid.refused()
    )


def test_half_a_download_is_said_and_can_be_imported_in_part(laid):
    (laid.folder / "images/s2/ccc.dicom").unlink()
    assert "line 5: the image ccc.dicom is not in" in laid.refused()
    assert set(laid.images(partial=True)) == {"aaa", "bbb", "ddd"}


def test_a_cut_dicom_file_is_said_and_can_be_left_out(laid):
    path = laid.folder / "images/s2/ccc.dicom"
    path.write_bytes(path.read_bytes()[:300])
    said = laid.refused()
    assert "ccc.dicom" in said
    assert "1 of 4 DICOM files cannot be read" in said
    assert set(laid.images(partial=True)) == {"aaa", "bbb", "ddd"}
