"""What a data set says about an image and its lesions, in words that figures can be split by."""

from collections.abc import Mapping
from typing import Any

from mammoscope.datasets import AnnotatedImage

UNKNOWN = "unknown"
"""The value of an attribute that an image or a lesion does not have."""

_OF_THE_FORMAT = {  # keys that COCO or the import defines: names and places of things, not what they are like
    "id", "image_id", "category_id", "file_name", "height", "width", "license", "flickr_url", "coco_url",
    "date_captured", "patient_id", "study_id", "split", "review", "area", "iscrowd", "bbox", "segmentation",
}  # fmt: skip


def attributes_of(image: AnnotatedImage) -> tuple[dict[str, str], tuple[dict[str, str], ...]]:
    """The attributes of an image, and of each of its boxes.

    Any COCO key of the image or annotation entry that holds a text, a number or a truth value is one, and any within
    its ``attributes``, where annotation tools put them. Laterality and view are always there, and each box's label.
    """
    own = {
        "laterality": str(image.laterality or UNKNOWN),
        "view": str(image.view or UNKNOWN),
    }
    facts = image.box_facts or ({},) * len(image.boxes)
    boxes = tuple({**_plain(fact), "label": label} for fact, label in zip(facts, image.labels, strict=True))
    return {**_plain(image.facts), **own}, boxes


def _plain(facts: Mapping[str, Any]) -> dict[str, str]:
    nested = facts.get("attributes")
    found = {**facts, **(nested if isinstance(nested, dict) else {})}
    return {
        key: str(value)
        for key, value in found.items()
        if key not in _OF_THE_FORMAT and isinstance(value, str | int | float) and str(value).strip()
    }
