import json
from pathlib import Path

import pytest

from mammoscope.datasets.collections.cdd_cesm import _label
from mammoscope.datasets.collections.tables import Row
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

SHEET = ["Image_name", "Patient_ID", "Side", "Type", "Age", "Machine", "Breast density (ACR)", "BIRADS", "Findings",
         "View", "Tags", "Pathology Classification/ Follow up"]  # fmt: skip
CONTOURS = ["#filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
            "region_attributes"]  # fmt: skip
READINGS = [
    ["P1_L_DM_CC", 1, "L", "DM", 50, "GE", "C", "5", "irregular mass", "CC", "mass", "Malignant"],
    ["P1_L_CM_CC", 1, "L", "CESM", 50, "GE", "C", "5", "irregular mass", "CC", "mass", "Malignant"],
    ["P1_R_DM_MLO", 1, "R", "DM", 50, "GE", "C", "1", "", "MLO", "", "Normal"],
    ["P2_R_DM_MLO", 2, "R", "DM", 44, "GE", "b", "3$4", "mass and calcifications", "MLO", "", "Benign"],
    ["P3_R_DM_CC", 3, "R", "DM", 61, "GE", "B", "2", "scar", "CC", "", "Benign"],
]
POLYGON = {"name": "polygon", "all_points_x": [10, 30, 20], "all_points_y": [15, 20, 40]}
ELLIPSE = {"name": "ellipse", "cx": 30, "cy": 40, "rx": 10, "ry": 5, "theta": 1.5707963267948966}
CIRCLE = {"name": "circle", "cx": 30, "cy": 40, "r": 6}


def region(name, number, shape):
    return [name, 1000, "{}", 1, number, json.dumps(shape), "{}"]


@pytest.fixture
def laid(lay, grey):
    laid = lay("cdd-cesm")
    for name in ("P1_L_DM_CC", "P1_R_DM_MLO", "P2_R_DM_MLO ", "P3_R_DM_CC"):
        laid.picture(f"Low energy images of CDD-CESM/{name}.jpg", grey(80, 60, "uint8"))
    laid.picture("Subtracted images of CDD-CESM/P1_L_CM_CC.jpg", grey(80, 60, "uint8"))
    laid.xlsx("Radiology-manual-annotations.xlsx", [SHEET, *READINGS])
    laid.csv("Radiology_hand_drawn_segmentations_v2.csv", CONTOURS, [
        region("P1_L_DM_CC.jpg", 0, POLYGON),
        region("P1_L_CM_CC.jpg", 0, CIRCLE),
        region("P2_R_DM_MLO .jpg", 0, ELLIPSE),
        ["P1_R_DM_MLO.jpg", 1000, "{}", 0, 0, "{}", "{}"],
    ])  # fmt: skip
    return laid


def test_low_energy_pictures_with_their_contours(laid):
    done = laid.bring()
    images = {name.strip(): image for name, image in laid.images(overwrite=True).items()}

    assert set(images) == {"P1_L_DM_CC", "P1_R_DM_MLO", "P2_R_DM_MLO", "P3_R_DM_CC"}
    first = images["P1_L_DM_CC"]
    assert first.boxes == (Box(10, 15, 30, 40),)
    assert first.labels == ("Mass",)
    assert first.box_facts[0]["segmentation"] == [[10, 15, 30, 20, 20, 40]]
    assert (first.patient, first.laterality, first.view) == ("P1", Laterality.LEFT, View.CC)
    assert (first.facts["density"], first.facts["pathology"]) == (3, "malignant")
    assert first.facts["attributes"] == {"modality": "low-energy", "birads": "5", "tags": "mass"}
    # an ellipse turned by a quarter: 5 across and 10 down
    turned = images["P2_R_DM_MLO"]
    assert turned.boxes[0].as_tuple() == pytest.approx((25, 30, 35, 50))
    assert turned.labels == ("Abnormality",)
    assert turned.facts["attributes"]["birads"] == "4"
    assert images["P1_R_DM_MLO"].facts.get("review") is None
    assert images["P3_R_DM_CC"].facts["review"] == "unannotated"
    assert len(done.notes) == 2


def test_subtracted_pictures_are_a_part_of_their_own(laid):
    (image,) = laid.dataset(only="subtracted")
    assert image.boxes == (Box(24, 34, 36, 46),)
    assert image.facts["attributes"]["modality"] == "subtracted"
    assert len(laid.dataset(only="both", overwrite=True)) == 5


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("{", {"unknown": {"a region whose shape is not JSON": 1}}),
        (
            '{"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1]}',
            {"unknown": {"a region without an area in its shape 'polygon'": 1}},
        ),
        ('{"name": "point", "cx": 1, "cy": 2}', {"passed_over": {"a point, which has no area": 1}}),
        (
            '{"name": "rect", "x": 70, "y": 0, "width": 5, "height": 5}',
            {"not_outlined": {"a region outside its image": 1}},
        ),
    ],
)
def test_one_bad_shape_refuses_no_collection(laid, shape, said):
    """In the collection as distributed 4 of 2,971 rows are points."""
    laid.csv("Radiology_hand_drawn_segmentations_v2.csv", CONTOURS, [["P1_L_DM_CC.jpg", 1, "{}", 1, 0, shape, "{}"]])
    found, counts = laid.unannotated("P1_L_DM_CC")
    assert found == said
    assert "Radiology_hand_drawn_segmentations_v2.csv:2" in counts.first.values()


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("heterogeneous non mass enhancement", "Non-mass enhancement"),
        ("Non-mass enhancement", "Non-mass enhancement"),
        ("irregular mass", "Mass"),
        ("no suspicious mass; grouped microcalcifications", "Calcification"),
        ("mass and non mass enhancement", "Abnormality"),
    ],
)
def test_non_mass_enhancement_is_no_mass(words, label):
    table = Path("sheet.csv")
    assert _label([Row(table, 2, {"findings": words, "tags": ""})]) == label


def test_an_unknown_part_is_refused(laid):
    assert "CDD-CESM has no part 'all': choose low-energy, subtracted, both" in laid.refused(only="all")


def test_a_cut_sheet_is_refused(laid):
    path = laid.folder / "Radiology-manual-annotations.xlsx"
    path.write_bytes(path.read_bytes()[:500])
    assert "Radiology-manual-annotations.xlsx is not a whole XLSX file" in laid.refused()
