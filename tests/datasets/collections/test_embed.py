import pytest

from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

IMAGES = ["empi_anon", "acc_anon", "study_date_anon", "StudyDescription", "anon_dicom_path", "png_path", "png_filename",
          "FinalImageType", "ImageLateralityFinal", "ViewPosition", "spot_mag", "num_roi", "ROI_coords",
          "match_level"]  # fmt: skip
FINDINGS = ["empi_anon", "acc_anon", "study_date_anon", "desc", "numfind", "side", "asses", "tissueden", "massshape",
            "massmargin", "massdens", "calcfind", "calcdistri", "path_severity"]  # fmt: skip


def image(patient, examination, name, kind, side, view, rois, spot="0.0"):
    return [patient, examination, "2014-01-01", "MG Screening", f"/mnt/NAS2/mammo/anon_dicom/{patient}/{name}.dcm",
            f"/mnt/NAS2/png/{name}.png", f"{name}.png", kind, side, view, spot, 0 if rois == "()" else 1, rois,
            "[1]"]  # fmt: skip


def finding(examination, number, side, assessment, shape="", calcification="", severity="", density="3.0", margin=""):
    return ["10", examination, "2014-01-01", "MG Screening", number, side, assessment, density, shape, margin, "",
            calcification, "", severity]  # fmt: skip


ROWS = [
    image("10", "100", "aaa", "2D", "L", "CC", "((10, 20, 40, 50), (5, 6, 15, 26))"),
    image("10", "100", "bbb", "2D", "R", "MLO", "()"),
    image("10", "100", "ccc", "cview", "L", "CC", "((10, 20, 40, 50),)"),
    image("11", "101", "ddd", "2D", "L", "CC", "(1, 2, 30, 40)", spot="1.0"),
    image("11", "101", "eee", "2D", "R", "CC", "()"),
]
FOUND = [
    finding("100", 1, "L", "S", shape="X", severity="0.0", margin="S"),
    finding("100", 2, "R", "N"),
    finding("101", 1, "L", "A", shape="S"),
    finding("101", 2, "L", "A", calcification="A"),
    finding("101", 3, "R", "P", shape="O"),
]


@pytest.fixture
def laid(lay, grey):
    laid = lay("embed")
    for row in ROWS:
        laid.dicom(f"images/cohort_1/{row[0]}/{row[1]}/{row[6][:3]}.dcm", grey(80, 60), ImagerPixelSpacing=[0.07, 0.07],
                   Manufacturer="HOLOGIC, Inc.")  # fmt: skip
    laid.csv("tables/EMBED_OpenData_metadata.csv", IMAGES, ROWS)
    laid.csv("tables/EMBED_OpenData_clinical.csv", FINDINGS, FOUND)
    return laid


def test_regions_are_y_before_x_and_findings_join_by_side(laid):
    done = laid.bring()
    images = laid.images(overwrite=True)

    assert set(images) == {"aaa", "bbb", "ddd", "eee"}
    first = images["aaa"]
    assert first.boxes == (Box(20, 10, 50, 40), Box(6, 5, 26, 15))
    assert first.labels == ("Mass", "Mass")
    assert first.box_facts[0]["attributes"] == {"birads": "4", "pathology": "malignant", "margins": "S"}
    assert (first.patient, first.laterality, first.view) == ("10", Laterality.LEFT, View.CC)
    assert (first.facts["density"], first.facts["pathology"], first.facts["study_id"]) == (3, "malignant", "100")
    assert (first.facts["scanner"], first.facts["spacing_mm"]) == ("HOLOGIC, Inc.", 0.07)
    # negative and without a region: nothing is there
    assert images["bbb"].boxes == ()
    assert "review" not in images["bbb"].facts
    # an asymmetry and calcifications on that side: which of them is marked is not said
    assert images["ddd"].boxes == (Box(2, 1, 40, 30),)
    assert images["ddd"].labels == ("Abnormality",)
    assert images["ddd"].facts["attributes"]["special_view"] == "spot compression or magnification"
    # a finding without a region: no box says nothing
    assert images["eee"].facts["review"] == "unannotated"
    assert done.notes[0].startswith("1 images have no region although")


def test_synthesised_views_are_a_part_of_their_own(laid):
    (view,) = laid.dataset(only="c-view")
    assert view.boxes == (Box(20, 10, 50, 40),)
    assert len(laid.dataset(only="both", overwrite=True)) == 5


def test_windows_paths_are_understood(laid):
    rows = [[cell.replace("/", "\\") if n == 4 else cell for n, cell in enumerate(row)] for row in ROWS]
    laid.csv("tables/EMBED_OpenData_metadata.csv", IMAGES, rows)
    assert len(laid.dataset()) == 4


def test_findings_of_both_sides_count_for_both(laid):
    laid.csv("tables/EMBED_OpenData_clinical.csv", FINDINGS, [finding("100", 1, "B", "A", shape="Q"), *FOUND[2:]])
    images = laid.images()
    assert images["aaa"].labels == ("Architectural distortion",) * 2
    assert images["bbb"].facts["review"] == "unannotated"


def test_a_region_outside_its_image_is_noted(laid):
    laid.csv("tables/EMBED_OpenData_metadata.csv", IMAGES, [
        image("10", "100", "aaa", "2D", "L", "CC", "((10, 20, 40, 50), (500, 600, 700, 800))"), *ROWS[1:],
    ])  # fmt: skip
    said, counts = laid.unannotated("aaa")
    assert said["not_outlined"]["a region outside its image"] == 1
    assert counts.first["a region outside its image"] == "EMBED_OpenData_metadata.csv:2"


@pytest.mark.parametrize("rois", ["((10, 20, 40),)", "10 20 40 50", "((40, 20, 10, 50),)", "((a, b, c, d),)"])
def test_regions_that_are_none_leave_their_image_unannotated(laid, rois):
    laid.csv(
        "tables/EMBED_OpenData_metadata.csv", IMAGES, [*ROWS[:1], image("10", "100", "bbb", "2D", "R", "CC", rois)]
    )
    said, counts = laid.unannotated("bbb")
    assert said == {"not_outlined": {"ROI_coords that are no list of boxes": 1}}
    assert set(counts.first.values()) == {"EMBED_OpenData_metadata.csv:3"}


def test_half_a_download_is_said(laid):
    (laid.folder / "images/cohort_1/11/101/ddd.dcm").unlink()
    assert "EMBED_OpenData_metadata.csv, line 5: ddd.dcm is not in" in laid.refused()
    assert len(laid.dataset(partial=True)) == 3
