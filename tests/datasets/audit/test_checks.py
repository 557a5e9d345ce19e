"""Each fault planted alone in a clean data set is found, and nothing else is."""

import shutil
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest

from mammoscope.datasets.audit import CHECKS, Severity

A = "w1_R_CC.dcm"
WITH_BOX = "w2_L_MLO.dcm"


def pixels_of(dataset: pydicom.Dataset) -> np.ndarray:
    return dataset.pixel_array.copy()


def put(dataset: pydicom.Dataset, pixels: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.ascontiguousarray(pixels.astype("<u2")).tobytes()


def with_boxes(folder: Any) -> str:
    coco = folder.coco
    return next(entry["file_name"] for entry in coco["images"] if folder.boxes(coco, entry["file_name"]))


def add_box(folder: Any, name: str, bbox: list[float], **more: Any) -> None:
    def change(content: dict[str, Any]) -> None:
        entry = {"id": 900, "image_id": folder.entry(content, name)["id"], "category_id": 1, "bbox": bbox,
                 "area": bbox[2] * bbox[3], "iscrowd": 0, **more}  # fmt: skip
        content["annotations"].append(entry)

    folder.change(change)


def add_copy(folder: Any, name: str, new: str, **facts: Any) -> None:
    """Another entry of the file ``new`` like that of ``name``, boxes left out."""

    def change(content: dict[str, Any]) -> None:
        content["images"].append({**folder.entry(content, name), "id": 800, "file_name": new, **facts})

    folder.change(change)


def test_nothing_is_found_in_a_clean_set(folder):
    assert folder.found() == {}


def test_every_check_says_why_it_matters_and_what_mends_it():
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.matters.endswith(".")
        assert check.mends.endswith(".")


def test_truncated_and_missing_files(folder):
    folder.file(A).write_bytes(folder.file(A).read_bytes()[:50_000])
    folder.file(WITH_BOX).unlink()

    audit = folder.audit()

    assert folder.found() == {"unreadable file": {A, WITH_BOX}}
    assert all(finding.check.severity is Severity.ERROR for finding in audit.findings)
    assert any("is not there" in finding.case.said for finding in audit.findings)


def test_a_file_of_another_size(folder):
    folder.change(lambda content: folder.entry(content, A).update(height=401))

    assert folder.found() == {"other size": {A}}


def test_broken_entries(folder):
    def change(content: dict[str, Any]) -> None:
        content["images"].append({"id": 77})
        content["annotations"] += [{"id": 901, "image_id": 555, "category_id": 1, "bbox": [1, 2, 3, 4]},
                                   {"id": 902, "image_id": 1, "category_id": 1, "bbox": [1, 2, "x", 4]}]  # fmt: skip

    folder.change(change)
    found = folder.audit().findings

    assert {finding.check.name for finding in found} == {"broken entry"}
    assert len(found) == 3
    assert any("555" in finding.case.said for finding in found)


def test_a_patient_in_two_splits(folder):
    folder.change(lambda content: folder.entry(content, A).update(split="test"))

    assert folder.found() == {"patient in two splits": {f"w1_{s}_{v}.dcm" for s in "RL" for v in ("CC", "MLO")}}


def test_no_patient(folder):
    folder.change(lambda content: folder.entry(content, A).pop("patient_id"))

    assert folder.found() == {"no patient": {A}, "missing view": {"w1_R_MLO.dcm"}}


def test_a_missing_view(folder):
    def change(content: dict[str, Any]) -> None:
        gone = folder.entry(content, A)["id"]
        content["images"] = [entry for entry in content["images"] if entry["id"] != gone]
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != gone]

    folder.change(change)

    assert folder.found() == {"missing view": {"w1_R_MLO.dcm"}}


def test_an_exact_duplicate_of_the_same_patient(folder):
    shutil.copy(folder.file(A), folder.file("copy.dcm"))
    add_copy(folder, A, "copy.dcm")

    assert folder.found() == {"exact duplicate": {A, "copy.dcm"}}
    (finding,) = folder.audit().findings
    assert "the same bytes" in finding.case.said


def test_the_same_pixels_in_two_splits(folder):
    shutil.copy(folder.file(A), folder.file("copy.dcm"))
    folder.change_dicom("copy.dcm", lambda dataset: setattr(dataset, "StationName", "other bytes"))
    add_copy(folder, A, "copy.dcm", patient_id="w3", split="test")

    assert folder.found() == {"exact duplicate apart": {A, "copy.dcm"}}
    (finding,) = folder.audit().findings
    assert finding.case.said == "2 files have the same pixels, but of 2 patients and in the splits test and train."


@pytest.mark.parametrize(
    ("how", "turn"),
    [
        ("", lambda p: p),
        (" mirrored left to right", lambda p: p[:, ::-1]),
        (" mirrored top to bottom", lambda p: p[::-1]),
        (" turned by 180 degrees", lambda p: p[::-1, ::-1]),
    ],
)
def test_a_near_duplicate_of_another_patient(folder, how, turn):
    """Larger, brighter, with noise, and turned."""
    rng = np.random.default_rng(0)
    shutil.copy(folder.file(A), folder.file("copy.dcm"))

    def change(dataset: pydicom.Dataset) -> None:
        pixels = cv2.resize(pixels_of(dataset), (330, 440), interpolation=cv2.INTER_CUBIC)
        put(dataset, turn(np.clip(pixels * 1.1 + rng.normal(0, 20, pixels.shape), 0, 4095)))
        del dataset.PatientOrientation

    folder.change_dicom("copy.dcm", change)
    add_copy(folder, A, "copy.dcm", patient_id="w9", split="test", height=440, width=330, laterality=None, view=None)

    assert folder.found()["near duplicate apart"] == {A, "copy.dcm"}
    said = next(f.case.said for f in folder.audit().findings if f.check.name == "near duplicate apart")
    assert f"alike{' when one is' + how if how else ''} (" in said


def test_a_box_without_area_and_boxes_that_leave_the_image(folder):
    name = with_boxes(folder)
    add_box(folder, name, [10, 10, 0, 5])
    assert folder.found() == {"box without area": {name}}

    folder.change(lambda content: content["annotations"][-1].update(bbox=[500, 10, 20, 20]))
    assert folder.found() == {"box outside image": {name}}


def test_a_box_over_the_edge(folder):
    """One of the 300 columns' breast side: 12 pixels of it lie outside."""
    add_box(folder, A, [272, 180, 40, 40])

    assert folder.found() == {"box over edge": {A}}
    (finding,) = folder.audit().findings
    assert "reaches 12.0 pixels over" in finding.case.said


def test_a_box_in_the_air(folder):
    add_box(folder, A, [5, 5, 30, 30])

    assert folder.found() == {"box off breast": {A}}


def test_a_box_of_unlikely_size(folder):
    """0.6 mm a pixel: a box of one pixel is 0.6 mm, less than any mass."""
    add_box(folder, A, [270, 200, 1, 1])

    assert folder.found() == {"unlikely size": {A}}


def test_boxes_of_one_image_that_fit_when_mirrored(folder):
    def from_middle(name: str) -> float:
        boxes = [entry["bbox"] for entry in folder.boxes(coco, name)]
        return min((abs(x + width / 2 - 150) for x, _, width, _ in boxes), default=0)

    def change(content: dict[str, Any]) -> None:
        for entry in folder.boxes(content, name):
            x, y, width, height = entry["bbox"]
            entry["bbox"] = [300 - x - width, y, width, height]

    coco = folder.coco
    name = max((entry["file_name"] for entry in coco["images"]), key=from_middle)
    folder.change(change)

    assert folder.found() == {"boxes placed otherwise": {name}, "box off breast": {name}}
    said = next(f.case.said for f in folder.audit().findings if f.check.name == "boxes placed otherwise")
    assert said == "Its boxes lie off the breast, but fit when mirrored left to right."


def test_a_whole_set_upside_down(folder):
    def change(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            entry["bbox"] = [x, 400 - y - height, width, height]

    folder.change(change)
    whole = [f for f in folder.audit().findings if f.check.name == "set placed otherwise"]

    assert len(whole) == 1
    assert "when mirrored top to bottom" in whole[0].case.said


def test_masks_of_another_image(folder):
    name = with_boxes(folder)

    def outline(content: dict[str, Any]) -> None:
        entry = folder.boxes(content, name)[0]
        x, y, width, height = entry["bbox"]
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height]]

    folder.change(outline)
    assert folder.found() == {}

    folder.change(lambda content: folder.boxes(content, name)[0].update(segmentation=[[0, 0, 9, 0, 9, 9]]))
    assert folder.found() == {"mask of another image": {name}}

    folder.change(lambda c: folder.boxes(c, name)[0].update(segmentation={"size": [300, 400], "counts": "x"}))
    assert folder.found() == {"mask of another image": {name}}


def test_a_mirrored_picture(folder):
    """Its Patient Orientation says so, and so do the other images of the patient."""
    folder.change_dicom("w1_L_MLO.dcm", lambda dataset: put(dataset, pixels_of(dataset)[:, ::-1]))

    found = folder.found()

    assert {"orientation", "laterality"} <= set(found) <= {
        "orientation", "laterality", "box off breast", "boxes placed otherwise"}  # fmt: skip
    assert all(names == {"w1_L_MLO.dcm"} for names in found.values())


def test_the_wrong_side(folder):
    folder.change(lambda content: folder.entry(content, A).update(laterality="L"))

    assert folder.found()["laterality"] == {A}


def test_the_wrong_view(folder):
    folder.change(lambda content: folder.entry(content, "w2_R_MLO.dcm").update(view="CC"))

    assert folder.found()["view"] == {"w2_R_MLO.dcm"}


def test_a_picture_upside_down(folder):
    folder.change_dicom("w2_R_MLO.dcm", lambda dataset: put(dataset, pixels_of(dataset)[::-1]))

    assert folder.found()["upside down"] == {"w2_R_MLO.dcm"}


def test_a_negative(folder):
    def change(dataset: pydicom.Dataset) -> None:
        dataset.PhotometricInterpretation, dataset.PresentationLUTShape = "MONOCHROME1", "INVERSE"

    folder.change_dicom(A, change)

    assert folder.found() == {"polarity": {A}}


def test_a_constant_image(folder):
    """Of 4096 levels it has ten."""
    levels = np.random.default_rng(0).integers(1000, 1010, (400, 300))
    folder.change_dicom(A, lambda dataset: put(dataset, levels))

    assert folder.found() == {"constant image": {A}}


def test_eight_bits_in_twelve(folder):
    folder.change_dicom(A, lambda dataset: put(dataset, pixels_of(dataset) // 16 * 16))

    assert folder.found() == {"bit depth": {A}}


def test_a_window_that_whitens_the_breast(folder):
    def change(dataset: pydicom.Dataset) -> None:
        dataset.WindowCenter, dataset.WindowWidth = 900, 400

    folder.change_dicom(A, change)

    assert folder.found()["window"] == {A}


def test_a_stretched_image(folder):
    def change(dataset: pydicom.Dataset) -> None:
        put(dataset, cv2.resize(pixels_of(dataset), (400, 400)))
        del dataset.PixelSpacing
        del dataset.ImagerPixelSpacing

    folder.change_dicom(A, change)

    def sized(content: dict[str, Any]) -> None:
        folder.entry(content, A).update(width=400)
        for box in folder.boxes(content, A):
            x, y, width, height = box["bbox"]
            box["bbox"] = [x * 4 / 3, y, width * 4 / 3, height]

    folder.change(sized)

    assert folder.found() == {"stretched": {A}}


@pytest.mark.parametrize("angle", [0, 40])
def test_text_burned_in_is_pointed_at(folder, angle):
    """A lead marker is no text; the clean set has one on every image."""

    def change(dataset: pydicom.Dataset) -> None:
        label = np.zeros((400, 300), np.uint8)
        for n, letter in enumerate("DOEJANE1950"):
            cv2.putText(label, letter, (20 + 12 * n, 60), cv2.FONT_HERSHEY_PLAIN, 0.9, 255, 1)
        label = cv2.warpAffine(label, cv2.getRotationMatrix2D((80, 60), angle, 1), (300, 400))
        put(dataset, np.maximum(pixels_of(dataset), label.astype(np.uint16) * 15))

    folder.change_dicom(A, change)

    assert folder.found() == {"text burned in": {A}}
    (finding,) = folder.audit().findings
    x0, y0, x1, y1 = finding.case.marks[0]
    assert 0 <= x0 < x1 <= 0.6
    assert 0 <= y0 < y1 <= 0.5
