"""RSNA 2022: its table, DICOM or pictures; negative is what was rated negative."""

import numpy as np
import pytest

from mammoscope.imaging import Laterality, View

TRAIN = ["site_id", "patient_id", "image_id", "laterality", "view", "age", "cancer", "biopsy", "invasive", "BIRADS",
         "implant", "density", "machine_id", "difficult_negative_case"]  # fmt: skip
ROWS = [
    ["2", "10006", "462822612", "L", "CC", "61.0", "0", "0", "0", "1.0", "0", "B", "29", "False"],
    ["2", "10006", "1459541791", "L", "MLO", "61.0", "0", "0", "0", "", "0", "B", "29", "False"],
    ["1", "10011", "220375232", "R", "AT", "55.0", "1.0", "1", "1", "0.0", "0", "C", "21", "False"],
]


@pytest.fixture
def laid(lay, grey):
    laid = lay("rsna-2022")
    laid.csv("train.csv", TRAIN, ROWS)
    for row in ROWS[:2]:
        laid.dicom(f"train_images/{row[1]}/{row[2]}.dcm", grey(80, 60))
    laid.picture("train_images/10011_220375232.png", grey(80, 60, np.uint8))  # as the copies are called
    return laid


def test_only_what_was_rated_negative_is(laid):
    done = laid.bring()
    images = laid.images(overwrite=True)

    first = images["462822612"]
    assert (first.patient, first.laterality, first.view, first.review) == (
        "10006", Laterality.LEFT, View.CC, "annotated",
    )  # fmt: skip
    assert (first.facts["density"], first.facts["attributes"]["birads"]) == (2, "1")
    assert images["1459541791"].review == "unannotated"
    assert (images["220375232"].review, images["220375232"].facts["pathology"]) == ("unannotated", "malignant")
    assert images["220375232"].view == View.AT
    counts = done.written.marks
    assert (counts.with_boxes, counts.negative, counts.unannotated) == (0, 1, 2)


def test_it_is_recognised_and_a_missing_image_is_counted(laid):
    laid.name = "auto"
    assert laid.bring().collection.key == "rsna-2022"
    (laid.folder / "train_images/10006/1459541791.dcm").unlink()
    assert "1 of 3 that the tables name are missing" in laid.bring(partial=True, overwrite=True).notes[0]
