"""COCO detection, as one of the annotation formats (see `mammoscope.datasets.coco`).

Detectron2's dataset dicts as JSON.

https://detectron2.readthedocs.io/en/latest/tutorials/datasets.html: a list of images with ``annotations``; their
``bbox`` is to be read by ``bbox_mode``, and classes are numbered from 0 in the order of ``thing_classes``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mammoscope.datasets.coco import CocoAnnotation, CocoDocument, CocoImage, is_crowd, polygons_of, read_coco
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked
from mammoscope.datasets.formats.base import (
    ImageFolder,
    LabelledFile,
    ReadOptions,
    rectangle,
    subset_of,
    turned_rectangle,
)
from mammoscope.datasets.formats.parsing import member, number, numbers, read_json_text, read_text
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, Silence, account
from mammoscope.datasets.review_log import ReviewState

_KEYS = {"patient": "patient_id", "study": "study_id"}
_SAME = ("laterality", "view", "density", "pathology", "scanner", "spacing_mm", "split")


def read_coco_file(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read a COCO file, or a folder of them (see `read_coco_source`)."""
    document = read_coco_source(source)
    for image in document.images:
        where = f"{document.path}, image {image.id}"
        names = {**_KEYS, **{name: name for name in _SAME}}
        facts = {name: str(image.facts[key]) for name, key in names.items() if image.facts.get(key) is not None}
        attributes = image.facts.get("attributes")
        yield LabelledFile(
            images.find(names_of(image), where), where,
            coco_marks(document, image, options.silence, crowds_are_lesions=options.crowds_are_lesions),
            image.rows, image.columns, facts, attributes if isinstance(attributes, dict) else {},
            image.facts.get(SUBSET),
        )  # fmt: skip
    if told := crowds_told(document, crowds_are_lesions=options.crowds_are_lesions):
        options.notes.append(told)


SUBSET, FOLDER = "mammoscope_subset", "mammoscope_folder"
"""Keys of an image entry read from one of several files: its part (train, val, test) and the folder of its file."""


def read_coco_source(source: Path) -> CocoDocument:
    """A COCO file that another program wrote, or all those below a folder as one.

    Roboflow writes a file into each of the folders train, valid and test, others ``instances_train.json`` and
    ``instances_val.json`` side by side. Images and annotations of several files are numbered anew; categories go by
    name.

    Raises
    ------
    DatasetError
        If there is none, or one cannot be read.
    """
    check_unpacked(source)
    if not source.is_dir():
        return read_coco(source, importing=True)
    files = [
        path for path in sorted(source.rglob("*.json")) if not path.name.startswith(".") and _looks_like_coco(path)
    ]
    if not files:
        raise DatasetError(f"{source} holds no COCO file: a JSON file with the lists 'images' and 'annotations'.")
    documents = [read_coco(path, importing=True) for path in files]
    return documents[0] if len(documents) == 1 and files[0].parent == source else _as_one(source, documents)


def _looks_like_coco(path: Path) -> bool:
    content = read_json_text(path, read_text(path))
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)


def _as_one(source: Path, documents: Sequence[CocoDocument]) -> CocoDocument:
    labels = list(dict.fromkeys(label for document in documents for label in document.categories.values()))
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    images: list[CocoImage] = []
    boxes = 0
    for document in documents:
        folder = document.path.parent.relative_to(source).as_posix()
        subset = subset_of(document.path.relative_to(source).with_suffix("").parts, in_name=True)
        for image in document.images:
            annotations = []
            for annotation in image.annotations:
                boxes += 1
                number = numbers[annotation.label]
                facts = {**annotation.facts, "id": boxes, "image_id": len(images) + 1, "category_id": number}
                annotations.append(replace(annotation, id=boxes, category_id=number, facts=facts))
            facts = {**image.facts, "id": len(images) + 1, FOLDER: folder, **({SUBSET: subset} if subset else {})}
            images.append(replace(image, id=len(images) + 1, annotations=tuple(annotations), facts=facts))
    first = documents[0].facts
    described = {key: value for key, value in first.items() if key not in {"images", "annotations", "categories"}}
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    facts = {**described, "categories": categories}
    return CocoDocument(source, tuple(images), {number: label for label, number in numbers.items()}, facts)


def names_of(image: CocoImage) -> list[str]:
    """What an image's file may be called: within the folder of its COCO file first."""
    folder = image.facts.get(FOLDER)
    beside = [f"{folder}/{image.file_name}"] if isinstance(folder, str) and folder != "." else []
    return [*beside, image.file_name]


def coco_marks(
    document: CocoDocument, image: CocoImage, silence: Silence | None, *, crowds_are_lesions: bool
) -> ImageMarks:
    """The account of an image; a state that its entry has, as Mammoscope's own files do, stands.

    Label Studio lists tasks that nobody did, too, and cannot know the size of an image that nobody opened. VIA lists
    every image that was loaded.
    """
    stated = image.facts.get("review")
    unopened = image.rows is None and image.columns is None
    of_format = Silence.UNANNOTATED if unopened or _is_of_via(document) else Silence.NEGATIVE
    return ImageMarks(
        tuple(_box(annotation, crowds_are_lesions=crowds_are_lesions) for annotation in image.annotations),
        of_format if silence is None else silence, image.left,
        stated=ReviewState(stated) if stated in list(ReviewState) else None,
    )  # fmt: skip


def _is_of_via(document: CocoDocument) -> bool:
    info = document.facts.get("info")
    return isinstance(info, dict) and str(info.get("description", "")).startswith("VIA project exported to COCO")


def crowds_told(document: CocoDocument, *, crowds_are_lesions: bool) -> str | None:
    """What the person who imports has to know of crowd regions, which CVAT makes of every mask and ellipse."""
    annotations = [annotation for image in document.images for annotation in image.annotations]
    crowds = sum(annotation.crowd for annotation in annotations)
    if not crowds:
        return None
    which = "Every mark" if crowds == len(annotations) else f"{crowds} of {len(annotations)} marks"
    if crowds_are_lesions:
        return f"{which} had iscrowd 1 and was taken for a lesion, as asked for."
    return (
        f"{which} has iscrowd 1: a region that is neither a lesion nor background. CVAT writes every mask and ellipse "
        "so; if they are lesions, import again with --crowds-are-lesions."
    )


def _box(annotation: CocoAnnotation, *, crowds_are_lesions: bool) -> ImportedBox:
    attributes = annotation.facts.get("attributes")
    return ImportedBox(
        annotation.box, annotation.label, attributes if isinstance(attributes, dict) else {},
        polygons_of(annotation.facts.get("segmentation")), annotation.crowd and not crowds_are_lesions,
    )  # fmt: skip


DICTS, METADATA = "dataset.json", "metadata.json"
"""Files that an export writes: the list, and ``{"thing_classes": [...]}``."""

_MODES = ("XYXY_ABS", "XYWH_ABS", "XYXY_REL", "XYWH_REL", "XYWHA_ABS")


def read_detectron2(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read a JSON list, or the folder of an export; classes come from ``metadata.json`` beside it or the options."""
    path = source / DICTS if source.is_dir() else source
    dicts = read_json_text(path, read_text(path))
    if not isinstance(dicts, list) or not dicts:
        raise DatasetError(f"{path} is not a list of Detectron2's dataset dicts.")
    classes = options.classes or _classes(path)
    for position, entry in enumerate(dicts):
        where = f"{path}, image {position}"
        image = images.find([str(member(where, entry, "file_name"))], where)
        rows, columns = images.size(image, where)
        annotations = entry.get("annotations")
        if annotations is not None and not isinstance(annotations, list):
            raise DatasetError(f"{where}: its annotations are no list.")
        marks = account(
            ((f"{where}, annotation {n}", annotation) for n, annotation in enumerate(annotations or [])),
            partial(_detectron2_box, size=(rows, columns), classes=classes),
            # a dict that has no annotations at all is one that nobody annotated
            options.silence_or(Silence.UNANNOTATED if annotations is None else Silence.NEGATIVE),
        )
        height, width = (value if isinstance(value := entry.get(side), int) else None for side in ("height", "width"))
        yield LabelledFile(image, where, marks, height, width)


def _classes(path: Path) -> tuple[str, ...]:
    beside = path.parent / METADATA
    if not beside.is_file():
        raise DatasetError(f"{path}: the names of the classes are not known: give --classes in their order.")
    names = member(str(beside), read_json_text(beside, read_text(beside)), "thing_classes")
    if not isinstance(names, list):
        raise DatasetError(f"{beside}: its thing_classes are no list.")
    return tuple(map(str, names))


def _detectron2_box(where: str, annotation: Any, size: tuple[int, int], classes: tuple[str, ...]) -> ImportedBox:
    number_of_class = number(where, "category_id", member(where, annotation, "category_id"))
    if number_of_class != int(number_of_class) or not 0 <= number_of_class < len(classes):
        raise DatasetError(f"{where}: there is no class {number_of_class:g}; the classes are 0 to {len(classes) - 1}.")
    label = classes[int(number_of_class)]
    values = numbers(where, "bbox", member(where, annotation, "bbox"))
    mode = _mode(where, annotation.get("bbox_mode"))
    rows, columns = size
    more: dict[str, Any] = {"crowd": bool(is_crowd(annotation.get("iscrowd")))}
    if mode == "XYWHA_ABS" and len(values) == 5:  # turned counter-clockwise about its centre
        cx, cy, width, height, degrees = values
        corner = (cx - width / 2, cy - height / 2)
        return turned_rectangle(corner, (width, height), -degrees, (cx, cy), label, **more)
    if len(values) != 4:
        raise DatasetError(f"{where}: a bbox of {mode} has not {len(values)} numbers.")
    if mode.endswith("REL"):
        values = [value * side for value, side in zip(values, (columns, rows, columns, rows), strict=True)]
    x, y, third, fourth = values
    edges = (x, y, x + third, y + fourth) if mode.startswith("XYWH") else (x, y, third, fourth)
    return rectangle(edges, label, polygons=polygons_of(annotation.get("segmentation")), **more)


def _mode(where: str, mode: object) -> str:
    """By number, as the enumeration is kept in JSON, or by name."""
    if isinstance(mode, int) and 0 <= mode < len(_MODES):
        return _MODES[mode]
    name = str(mode).removeprefix("BoxMode.").partition(":")[0]
    if name in _MODES:
        return name
    raise DatasetError(f"{where}: its bbox_mode {mode!r} is none of {', '.join(_MODES)} (0 to 4).")
