"""CSAW-CC: its table, DICOM, masks of tumours; controls that nobody recalled are negative."""

import numpy as np
import pytest

from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

TABLE = ["anon_patientid", "exam_year", "x_age", "x_case", "x_cancer_laterality", "x_type", "x_lymphnode_met",
         "rad_timing", "rad_r1", "rad_r2", "rad_recall", "rad_recall_type_right", "rad_recall_type_left",
         "imagelaterality", "viewposition", "dicom_manufacturer", "libra_breastarea", "libra_densearea",
         "libra_percentdensity", "anon_filename"]  # fmt: skip


def row(patient, name, side, view, *, case="1", cancer="Left", timing="1", recall="1"):
    return [patient, "2012", "2", case, cancer, "1.0", "0", timing, "2", "2", recall, "", "", side, view, "HOLOGIC",
            "100", "20", "20.0", name]  # fmt: skip


ROWS = [
    row("p1", "00001_20120101_L_CC_1.dcm", "Left", "CC"),
    row("p1", "00001_20120101_R_CC_1.dcm", "Right", "CC"),
    row("p2", "00002_20120101_L_CC_1.dcm", "Left", "CC"),
    row("p3", "00003_20120101_L_MLO_1.dcm", "Left", "MLO", case="0", cancer="", timing="", recall="0"),
    row("p4", "00004_20120101_L_MLO_1.dcm", "Left", "MLO", case="0", cancer="", timing="", recall="1"),
]


@pytest.fixture
def laid(lay, grey):
    laid = lay("csaw-cc")
    laid.csv("CSAW-CC_breast_cancer_screening_data.csv", TABLE, ROWS, delimiter=";")
    for entry in ROWS:
        laid.dicom(f"images/{entry[-1]}", grey(80, 60))
    mask = np.zeros((80, 60), np.uint8)
    mask[20:45, 10:31] = 255
    laid.picture("masks/00001_20120101_L_CC_1_mask.png", mask)
    return laid


def test_masks_are_boxes_and_silence_is_no_negative(laid):
    done = laid.bring()
    images = {image.path.stem[:5] + image.path.stem[15]: image for image in laid.dataset(overwrite=True)}

    first = images["00001L"]
    assert (first.boxes, first.labels) == ((Box(10, 20, 31, 45),), ("Cancer",))
    assert (first.patient, first.laterality, first.view) == ("p1", Laterality.LEFT, View.CC)
    assert first.facts["pathology"] == "malignant"
    # the codebook's numbers in words: x_age is a band of ages, no age
    assert first.facts["attributes"] == {
        "age_band": "over 55", "type": "in situ", "timing": "screen-detected", "lymph_node_metastasis": "0",
        "recalled": "1", "percent_density": "20",
    }  # fmt: skip
    # the other breast of a woman with cancer, a cancer without a mask, a control, and one that was recalled
    assert [images[name].review for name in ("00001R", "00002L", "00003L", "00004L")] == [
        "unannotated", "unannotated", "annotated", "unannotated",
    ]  # fmt: skip
    assert dict(done.written.marks.not_outlined) == {"a cancer without a mask": 1}
    laid.name = "auto"
    assert laid.bring(overwrite=True).collection.key == "csaw-cc"
