"""What goes out in a format comes in again: the same boxes to 0.01 pixel, images without boxes, whose they are."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mammoscope.datasets import ImportedBox, ImportedImage, load_dataset, write_dataset
from mammoscope.datasets.formats import WRITERS, export_dataset, import_annotations
from mammoscope.datasets.formats.exporting import VOC_IMAGES
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

ANNOTATIONS = {
    "coco": "annotations.json", "csv": "boxes.csv", "detectron2": "dataset.json", "voc": "Annotations", "yolo": ".",
}  # fmt: skip
SIZES = ((4001, 3329), (61, 47), (100, 200))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, (rows, columns) in enumerate(SIZES):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((rows, columns), np.uint8))
    return folder


@st.composite
def boxes(draw, rows: int, columns: int):
    x0 = draw(st.floats(0, columns - 2))
    y0 = draw(st.floats(0, rows - 2))
    x1 = draw(st.floats(x0 + 1, columns))
    y1 = draw(st.floats(y0 + 1, rows))
    return Box(x0, y0, x1, y1)


@st.composite
def collections(draw):
    labels = st.sampled_from(["Mass", "Kalk, grob", "Ärger; 'quoted' \"twice\"", "1"])
    return [[ImportedBox(draw(boxes(*size)), draw(labels)) for _ in range(draw(st.integers(0, 3)))] for size in SIZES]


@pytest.mark.parametrize("kind", sorted(WRITERS))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(marks=collections())
def test_boxes_survive(kind, pictures, marks):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = [
            ImportedImage(
                pictures / f"{number}.png", *size, f"patient {number}", file_name=f"deep {number}/{number}.png",
                marks=ImageMarks(tuple(theirs), Silence.NEGATIVE),
                split=("train", "val", "test")[number], laterality=Laterality.LEFT, view=View.MLO,
            )
            for number, (size, theirs) in enumerate(zip(SIZES, marks, strict=True))
        ]  # fmt: skip
        write_dataset(images, folder / "first", name="drawn", labels=["1", "Mass"])
        export_dataset(folder / "first", folder / "out", kind)
        if kind == "yolo" and not any(marks):
            (folder / "out/labels/deep 0/0.txt").write_text("")
        table = None if kind in {"coco", "csv"} else folder / "out" / "images.csv"
        import_annotations(
            kind,
            folder / "out" / ANNOTATIONS[kind],
            folder / "out" / (VOC_IMAGES if kind == "voc" else "images"),
            folder / "again",
            table=table,
        )

        first, again = (load_dataset(folder / name) for name in ("first", "again"))
        by_name = {image.facts["file_name"]: image for image in again}
        assert len(by_name) == 3
        for image in first:
            other = by_name[image.facts["file_name"]]
            assert (other.patient, other.split, other.view) == (image.patient, image.split, image.view)
            assert other.labels == image.labels
            for box, back in zip(image.boxes, other.boxes, strict=True):
                assert back.as_tuple() == pytest.approx(box.as_tuple(), abs=0.01)
