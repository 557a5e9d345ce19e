"""Import, export, import again, with another program in between.

What goes out is read by it, and what it writes comes in.

Not a test of the suite: each program needs an environment of its own, being large, under another licence or at odds
with our versions. ``python through_other_programs.py PROGRAM PYTHON [--sets N]``, where PYTHON is that environment's,
for PROGRAM of

- ``datumaro`` (``pip install datumaro``): the engine of CVAT's exports;
- ``label-studio`` (``pip install label-studio-sdk``): its converters;
- ``x-anylabeling`` (``pip install x-anylabeling-cvhub[cpu]``): its converter.

Prints, of each way, how many boxes went and by how many pixels the farthest edge moved; exit code 1 if a box was lost,
added, of another label or moved by more than its format's rounding.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mammoscope.datasets import AnnotatedDataset, DatasetError, ImportedBox, ImportedImage, load_dataset, write_dataset
from mammoscope.datasets.formats import ReadOptions, export_dataset, import_annotations
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.findings import Box

SIZES = ((401, 333), (61, 47), (100, 200), (2000, 1501))
LABELS = ("Mass", "Calcification, coarse", "Ärger")

_DATUMARO = """
import os, sys, shutil, datumaro as dm
source, reads, writes, out = sys.argv[1:]
if reads == "coco":  # it looks for its file in a folder called so
    os.makedirs(source + "/annotations")
    shutil.move(source + "/annotations.json", source + "/annotations/instances_default.json")
data = dm.Dataset.import_from(source, reads)
if writes == "yolo":
    data.transform("map_subsets", mapping={"default": "train"})
if writes == "yolo_ultralytics":  # it wants both
    data.transform("random_split", splits=[("train", 0.5), ("val", 0.5)], seed=1)
data.export(out, writes, save_media=False)
"""
_LABEL_STUDIO = """
import sys, logging
logging.disable()
source, reads, writes, out = sys.argv[1:]
import os; os.makedirs(out)
if reads == "yolo":
    from label_studio_sdk.converter.imports.yolo import convert_yolo_to_ls
    convert_yolo_to_ls(source, out + "/tasks.json", image_root_url="/data/local-files/?d=images", image_ext=".png")
else:
    from label_studio_sdk.converter.imports.coco import convert_coco_to_ls
    convert_coco_to_ls(source + "/annotations.json", out + "/tasks.json", image_root_url="/data/local-files/?d=images")
"""
_X_ANYLABELING = """
import sys, os, glob
from anylabeling.views.labeling.label_converter import LabelConverter
source, reads, writes, out = sys.argv[1:]
os.makedirs(out)
if reads == "coco":
    LabelConverter().coco_to_custom(source + "/annotations.json", out, "rectangle")
for image in sorted(glob.glob(source + "/*mages/*.png")):
    stem = os.path.splitext(os.path.basename(image))[0]
    if reads == "yolo" and os.path.exists(f"{source}/labels/{stem}.txt"):
        LabelConverter(source + "/classes.txt").yolo_to_custom(
            f"{source}/labels/{stem}.txt", f"{out}/{stem}.json", image, "hbb")
for image in sorted(glob.glob(source + "/JPEGImages/*.png")):
    stem = os.path.splitext(os.path.basename(image))[0]
    marks = f"{source}/Annotations/{stem}.xml"
    LabelConverter().voc_to_custom(marks, f"{out}/{stem}.json", os.path.basename(image), "rectangle")
"""


@dataclass(frozen=True, slots=True)
class Way:
    """What we write, as what the other program reads it, what it writes, and how that is read.

    ``rounding`` is that of the formats on the way, in pixels; ``first_pixel`` is 1 where the program takes the numbers
    of Pascal VOC, which counts pixels from 1, for edges, so that its boxes begin one pixel later.
    """

    ours: str
    reads: str
    writes: str
    theirs: str
    place: str = "."
    counts_from: int = 1
    rounding: float = 0.01
    first_pixel: int = 0


WAYS = {
    "datumaro": (
        _DATUMARO,
        (
            Way("coco", "coco", "coco_instances", "coco", "annotations/instances_default.json", rounding=0.02),
            Way("coco", "coco", "cvat", "cvat", "default.xml", rounding=0.02),
            Way("coco", "coco", "yolo", "yolo"),
            Way("coco", "coco", "yolo_ultralytics", "yolo"),
            Way("coco", "coco", "voc_detection", "voc", "Annotations", counts_from=0, rounding=0.02),
            Way("voc", "voc_detection", "cvat", "cvat", "default.xml", rounding=0.02, first_pixel=1),
        ),
    ),
    "label-studio": (
        _LABEL_STUDIO,
        (
            Way("yolo", "yolo", "json", "label-studio", "tasks.json"),
            Way("coco", "coco", "json", "label-studio", "tasks.json"),
        ),
    ),
    "x-anylabeling": (
        _X_ANYLABELING,
        (
            Way("yolo", "yolo", "json", "labelme"),
            Way("coco", "coco", "json", "labelme"),
            Way("voc", "voc", "json", "labelme", first_pixel=1, rounding=1),
        ),
    ),
}


def drawn(folder: Path, seed: int) -> Path:
    """A data set of invented boxes, some at the edges, one image without any, as its folder."""
    draw = random.Random(seed)
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    images = []
    for number, (rows, columns) in enumerate(SIZES):
        cv2.imwrite(str(pictures / f"P{number}_a.png"), np.zeros((rows, columns), np.uint8))
        boxes = [ImportedBox(_box(draw, rows, columns), draw.choice(LABELS)) for _ in range(0 if number == 1 else 3)]
        images.append(
            ImportedImage(
                pictures / f"P{number}_a.png", rows, columns, f"P{number}", file_name=f"P{number}_a.png",
                marks=ImageMarks(tuple(boxes), Silence.NEGATIVE),
            )
        )  # fmt: skip
    write_dataset(images, folder / "set", name="drawn", labels=LABELS)
    return folder / "set"


def _box(draw: random.Random, rows: int, columns: int) -> Box:
    x0, y0 = draw.choice((0.0, draw.uniform(0, columns - 12))), draw.choice((0.0, draw.uniform(0, rows - 12)))
    x1, y1 = (
        draw.choice((float(columns), draw.uniform(x0 + 10, columns))),
        draw.choice((float(rows), draw.uniform(y0 + 10, rows))),
    )
    return Box(x0, y0, x1, y1)


def boxes_of(data: AnnotatedDataset) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    return {
        image.path.name: sorted((label, box.as_tuple()) for label, box in zip(image.labels, image.boxes, strict=True))
        for image in data
    }


def farthest(before: AnnotatedDataset, after: AnnotatedDataset, first_pixel: int) -> float:
    """By how many pixels the farthest edge moved; raises `ValueError` where a box was lost, added or relabelled."""
    there, back = boxes_of(before), boxes_of(after)
    most = 0.0
    for name, boxes in there.items():
        others = back.get(name, [])
        if [label for label, _ in boxes] != [label for label, _ in others]:
            raise ValueError(f"{name}: {boxes} became {others}")
        for label, box in boxes:
            # a turned order of boxes is no loss: the nearest of its label is its own
            most = max(most, min(_apart(box, other, first_pixel) for same, other in others if same == label))
    return most


def _apart(box: tuple[float, ...], other: tuple[float, ...], first_pixel: int) -> float:
    x0, y0, x1, y1 = other
    return max(abs(a - b) for a, b in zip(box, (x0 - first_pixel, y0 - first_pixel, x1, y1), strict=True))


def gone(way: Way, program: str, python: str, folder: Path, seed: int) -> tuple[int, float]:
    """Boxes that went, and how far the farthest edge moved."""
    source = drawn(folder, seed)
    export_dataset(source, folder / "export", way.ours)
    arguments = [str(folder / "export"), way.reads, way.writes, str(folder / "theirs")]
    done = subprocess.run([python, "-c", program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"the program ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    import_annotations(
        way.theirs, folder / "theirs" / way.place, folder / "pictures", folder / "again",
        patient_pattern="^(?P<patient>P[0-9]+)_", options=ReadOptions(counts_from=way.counts_from),
    )  # fmt: skip
    before = load_dataset(source)
    return before.n_boxes, farthest(before, load_dataset(folder / "again"), way.first_pixel)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", choices=sorted(WAYS))
    parser.add_argument("python")
    parser.add_argument("--sets", type=int, default=5)
    given = parser.parse_args()
    program, ways = WAYS[given.program]
    failed = 0
    for way in ways:
        boxes, most, lost = 0, 0.0, ""
        for seed in range(given.sets):
            scratch = Path(tempfile.mkdtemp())
            try:
                number, moved = gone(way, program, given.python, scratch, seed)
                boxes, most = boxes + number, max(most, moved)
            except (ValueError, DatasetError) as error:
                lost = str(error)
            finally:
                shutil.rmtree(scratch)
        failed += bool(lost) or most > way.rounding
        print(f"{way.ours} -> {given.program} -> {way.writes}: {lost or f'{boxes} boxes, {most:.4f} px'}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
