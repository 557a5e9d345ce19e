"""COCO detection, as one of the annotation formats (see `mammoscope.datasets.coco`)."""

from collections.abc import Iterator
from pathlib import Path

from mammoscope.datasets.coco import CocoAnnotation, read_coco
from mammoscope.datasets.content import polygons_of
from mammoscope.datasets.files import check_unpacked
from mammoscope.datasets.formats.image_folder import ImageFolder
from mammoscope.datasets.formats.labelled import LabelledFile, ReadOptions
from mammoscope.datasets.imported import ImportedBox

_KEYS = {"patient": "patient_id", "study": "study_id"}
_SAME = ("laterality", "view", "density", "pathology", "scanner", "spacing_mm", "split")


def read_coco_file(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:  # noqa: ARG001
    """Read a COCO file."""
    check_unpacked(source)
    for image in read_coco(source).images:
        where = f"{source}, image {image.id}"
        names = {**_KEYS, **{name: name for name in _SAME}}
        facts = {name: str(image.facts[key]) for name, key in names.items() if image.facts.get(key) is not None}
        attributes = image.facts.get("attributes")
        yield LabelledFile(
            images.find([image.file_name], where), where, tuple(_box(a) for a in image.annotations), image.rows,
            image.columns, facts, attributes if isinstance(attributes, dict) else {},
        )  # fmt: skip


def _box(annotation: CocoAnnotation) -> ImportedBox:
    attributes = annotation.facts.get("attributes")
    return ImportedBox(
        annotation.box, annotation.label, attributes if isinstance(attributes, dict) else {},
        polygons_of(annotation.facts.get("segmentation")), annotation.crowd,
    )  # fmt: skip
