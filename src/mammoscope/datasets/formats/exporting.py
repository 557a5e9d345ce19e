"""A data set in the formats of other programs.

Mammograms as pictures that other programs read.
"""

import csv
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import yaml

from mammoscope.datasets.coco import read_coco
from mammoscope.datasets.dataset import ANNOTATIONS, IMAGES, AnnotatedDataset, AnnotatedImage, load_dataset
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import write_json
from mammoscope.datasets.formats.coco import DICTS, METADATA
from mammoscope.datasets.formats.csv import FACTS, TABLE, facts_of, write_facts
from mammoscope.datasets.review_log import ReviewState
from mammoscope.datasets.writer import ImagesAs, bring_image, folder_in_place_of
from mammoscope.findings import Box
from mammoscope.imaging import MammogramError, read_mammogram
from mammoscope.untrusted_text import csv_cell


def write_png(source: Path, target: Path) -> None:
    """Write a mammogram as it is displayed as an 8-bit PNG of the same size.

    Raises
    ------
    DatasetError
        If it cannot be read.
    """
    try:
        pixels = read_mammogram(source).pixels
    except MammogramError as error:
        raise DatasetError(f"{source} cannot be written as PNG: {error}") from None
    _, encoded = cv2.imencode(".png", (pixels // 257).astype("uint8"))
    target.write_bytes(encoded.tobytes())


BOXES = "boxes.csv"
"""The table of an export as CSV."""

VOC_IMAGES = "JPEGImages"
"""Where readers of Pascal VOC look for images, whatever their format."""

_DECIMALS = 4  # of pixels: far below the 0.01 that anything is compared to


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was written; ``crowds_left_out`` counts regions that the format has no word for.

    ``unannotated`` are images without a box of which nobody said that they show no lesion.
    """

    images: int
    boxes: int
    crowds_left_out: int
    unannotated: int = 0
    unannotated_as: str = ""

    def unannotated_told(self) -> str:
        """What a person has to know of them."""
        return f"{self.unannotated} images are unannotated: {self.unannotated_as}."


@dataclass(frozen=True, slots=True)
class _Export:
    """A data set on its way out: ``names`` are those of its images in the export, by id."""

    dataset: AnnotatedDataset
    source: Path
    names: Mapping[int, str]


def export_dataset(
    folder: Path,
    out: Path,
    kind: str,
    *,
    split: str | None = None,
    images_as: ImagesAs = ImagesAs.LINKED,
    png: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExportSummary:
    """Write a data set in a format of `WRITERS`, with its images and, where the format has boxes only, ``images.csv``.

    Parameters
    ----------
    kind
        ``coco``, ``csv``, ``detectron2``, ``voc`` or ``yolo``.
    split
        Only the images of that split.
    png
        Write images as 8-bit PNG, as they are displayed: for programs that read no DICOM.
    overwrite
        Replace an earlier export.

    Raises
    ------
    DatasetError
        If the data set cannot be used, an image cannot be read, or ``out`` is there or cannot be written.
    """
    out = Path(out)
    _check_target(out, overwrite)
    dataset = load_dataset(Path(folder), split)
    names = {image.id: _name(image, png=png) for image in dataset}
    if len(set(names.values())) < len(names):
        raise DatasetError(f"two images of {folder} would have one name as PNG: export without --png.")
    export = _Export(dataset, Path(folder), names)
    with folder_in_place_of(out) as new:
        for done, image in enumerate(dataset, start=1):
            target = new / (VOC_IMAGES if kind == "voc" else IMAGES) / names[image.id]
            target.parent.mkdir(parents=True, exist_ok=True)
            if png:
                write_png(image.path, target)
            else:
                bring_image(image.path, target, images_as)
            if progress:
                progress(done, len(dataset))
        WRITERS[kind](export, new)
        if kind not in _WITH_FACTS:
            write_facts(new / TABLE, [(names[image.id], image) for image in dataset])
    crowds = 0 if kind in _WITH_CROWDS else sum(len(image.crowds) for image in dataset)
    unannotated = sum(image.review is ReviewState.UNANNOTATED for image in dataset)
    return ExportSummary(len(dataset), dataset.n_boxes, crowds, unannotated, _UNANNOTATED_AS[kind])


def _check_target(out: Path, overwrite: bool) -> None:
    """Refuse what is there, but for an earlier export that may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    others = [] if not out.is_dir() else [path.name for path in out.iterdir() if path.name not in _WRITTEN]
    if not out.is_dir() or [name for name in others if not name.endswith(".cache")]:  # Ultralytics leaves its caches
        raise DatasetError(f"{out} is there already and is not an export: choose another --out.")
    if not overwrite:
        raise DatasetError(f"{out} is there already: choose another --out, or replace it with --force.")


def _name(image: AnnotatedImage, *, png: bool) -> str:
    name = PurePosixPath(str(image.facts.get("file_name", image.name)))
    return str(name.with_suffix(".png") if png else name)


def _write_coco(export: _Export, out: Path) -> None:
    document = read_coco(export.source / ANNOTATIONS).facts
    kept = {image.id for image in export.dataset}
    content = {
        **document,
        "images": [{**entry, "file_name": export.names[entry["id"]]} for entry in document["images"]
                   if entry["id"] in kept],
        "annotations": [entry for entry in document["annotations"] if entry["image_id"] in kept],
    }  # fmt: skip
    write_json(out / ANNOTATIONS, content)


def _write_csv(export: _Export, out: Path) -> None:
    attributes = [[_attributes(facts) for facts in image.box_facts] for image in export.dataset]
    more = sorted({name for boxes in attributes for box in boxes for name in box})
    with (out / BOXES).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *FACTS, "label", "x0", "y0", "x1", "y1", *map(csv_cell, more)])
        for image, said in zip(export.dataset, attributes, strict=True):
            about = [export.names[image.id], *facts_of(image).values()]
            for box, label, own in zip(image.boxes, image.labels, said, strict=True):
                row = [*about, label, *map(_text, box.as_tuple()), *(own.get(name, "") for name in more)]
                writer.writerow(map(csv_cell, row))
            if not image.boxes:
                writer.writerow([*map(csv_cell, about), *[""] * (5 + len(more))])


def _attributes(facts: Mapping[str, Any]) -> dict[str, str]:
    """Of a box; one that is called as a column of images is, gets another name."""
    nested = facts.get("attributes")
    taken = {*FACTS, "file_name", "label", "x0", "y0", "x1", "y1"}
    return {
        f"box_{name}" if name in taken else str(name): str(value)
        for name, value in (nested if isinstance(nested, dict) else {}).items()
    }


def _said_empty(image: AnnotatedImage) -> bool:
    """Whether a format in which a file without boxes says that there is no lesion may have one of this image."""
    return bool(image.boxes) or image.review is not ReviewState.UNANNOTATED


def _write_voc(export: _Export, out: Path) -> None:
    for image in filter(_said_empty, export.dataset):
        name = export.names[image.id]
        root = ET.Element("annotation")
        ET.SubElement(root, "folder").text = VOC_IMAGES
        ET.SubElement(root, "filename").text = name
        size = ET.SubElement(root, "size")
        for side, length in (("width", image.columns), ("height", image.rows), ("depth", 1)):
            ET.SubElement(size, side).text = str(length)
        for box, label in zip(image.boxes, image.labels, strict=True):
            entry = ET.SubElement(root, "object")
            ET.SubElement(entry, "name").text = label
            frame = ET.SubElement(entry, "bndbox")
            edges = {"xmin": box.x0 + 1, "ymin": box.y0 + 1, "xmax": box.x1, "ymax": box.y1}  # counted from 1, both in
            for side, value in edges.items():
                ET.SubElement(frame, side).text = _text(value)
        target = out / "Annotations" / PurePosixPath(name).with_suffix(".xml")
        target.parent.mkdir(parents=True, exist_ok=True)
        ET.indent(root)
        ET.ElementTree(root).write(target, encoding="utf-8", xml_declaration=True)
    # CVAT knows the labels from this table of names and colours alone.
    labels = ("background", *export.dataset.labels)
    lines = [f"{label}:{','.join(map(str, _colour(number)))}::\n" for number, label in enumerate(labels)]
    (out / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "".join(lines), encoding="utf-8")
    # Programs find the images by these lists: without splits, all are in "default", as CVAT calls it.
    for split, names in (_by_split(export) or {"default": list(export.names.values())}).items():
        listed = out / "ImageSets" / "Main" / f"{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{PurePosixPath(name).with_suffix('')}\n" for name in names), encoding="utf-8")


def _colour(number: int) -> tuple[int, int, int]:
    """Pascal VOC's colour of a class: bits of its number, three by three, from the highest bit of each channel down."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]


def _write_yolo(export: _Export, out: Path) -> None:
    classes = list(export.dataset.labels)
    for image in filter(_said_empty, export.dataset):
        target = out / "labels" / PurePosixPath(export.names[image.id]).with_suffix(".txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            f"{classes.index(label)} " + " ".join(f"{value:.8f}" for value in _shares(box, image))
            for box, label in zip(image.boxes, image.labels, strict=True)
        ]
        target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    splits = _by_split(export)
    for split, names in splits.items():
        (out / f"{split}.txt").write_text("".join(f"./{IMAGES}/{name}\n" for name in names), encoding="utf-8")
    # Without "path", whoever reads it looks beside the file; "." would be the folder that the reader happens to run in.
    # A set that is not split gets no "val": its training images are not to validate on.
    sets = {split: f"{split}.txt" for split in splits} or {"train": IMAGES}
    described = {**sets, "names": dict(enumerate(classes))}
    (out / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False, allow_unicode=True), encoding="utf-8")
    # Label Studio's converter reads the names from here.
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _shares(box: Box, image: AnnotatedImage) -> tuple[float, float, float, float]:
    x, y = box.center
    return x / image.columns, y / image.rows, box.width / image.columns, box.height / image.rows


def _write_detectron2(export: _Export, out: Path) -> None:
    document = read_coco(export.source / ANNOTATIONS)
    annotations = {image.id: image.annotations for image in document.images}
    classes = list(export.dataset.labels)
    dicts = [
        {
            "file_name": f"{IMAGES}/{export.names[image.id]}",
            "image_id": image.id,
            "height": image.rows,
            "width": image.columns,
            **({} if not _said_empty(image) else {"annotations": [
                {"bbox": list(annotation.box.as_xywh()), "bbox_mode": 1,  # BoxMode.XYWH_ABS
                 "category_id": classes.index(annotation.label), "iscrowd": int(annotation.crowd)}
                | ({"segmentation": outline} if (outline := annotation.facts.get("segmentation")) else {})
                for annotation in annotations[image.id]
            ]}),
        }
        for image in export.dataset
    ]  # fmt: skip
    write_json(out / DICTS, dicts)
    write_json(out / METADATA, {"thing_classes": classes})


def _by_split(export: _Export) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for image in export.dataset:
        if image.split:
            splits.setdefault(image.split, []).append(export.names[image.id])
    return splits


def _text(value: float) -> str:
    return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")


_WITH_FACTS = {"coco", "csv"}
_WRITTEN = {
    ANNOTATIONS, BOXES, DICTS, IMAGES, METADATA, TABLE, VOC_IMAGES, "Annotations", "ImageSets", "labelmap.txt",
    "classes.txt", "data.yaml", "labels", "train.txt", "val.txt", "test.txt",
}  # fmt: skip
"""All that an export may hold: only a folder with nothing else is one that may be replaced."""
_UNANNOTATED_AS = {
    "coco": "their entries say so with 'review', which other programs take for images without a lesion",
    "csv": "their rows say so in the column 'review'",
    "detectron2": "their dicts have no 'annotations'",
    "voc": "those without a box have no XML file",
    "yolo": "those without a box have no text file",
}
_WITH_CROWDS = {"coco", "detectron2"}
WRITERS: Mapping[str, Callable[[_Export, Path], None]] = {
    "coco": _write_coco,
    "csv": _write_csv,
    "detectron2": _write_detectron2,
    "voc": _write_voc,
    "yolo": _write_yolo,
}
"""The formats that can be written, by the names that the command line has for them."""
