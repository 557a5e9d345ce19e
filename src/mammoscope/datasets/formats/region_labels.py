"""Which of a region's attributes is its label, for programs that have attributes only."""

from collections.abc import Mapping
from typing import Any

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.labelled import ReadOptions

_LABEL_KEYS = ("label", "class", "name", "category", "type", "lesion")
"""Attributes that are taken for the label where none is named and a region has several."""


def label_of(where: str, attributes: Mapping[str, Any], options: ReadOptions) -> str:
    """The label of a region: the attribute asked for, else the only one, else one that is called so.

    Raises
    ------
    DatasetError
        If none of these is there.
    """
    if options.label_key:
        label = attributes.get(options.label_key) or options.label
        if not label:
            raise DatasetError(f"{where}: it has no attribute {options.label_key!r}; it has {sorted(attributes)}.")
        return str(label)
    if options.label:
        return options.label
    by_name = {key.lower(): value for key, value in attributes.items()}
    named = next((by_name[key] for key in _LABEL_KEYS if key in by_name), None)
    if named is None and len(attributes) == 1:
        named = next(iter(attributes.values()))
    if named is None:
        raise DatasetError(
            f"{where}: which of its attributes {sorted(attributes)} is the label? Say so with --label-key, or name the "
            "one label of all boxes with --label."
        )
    return str(named)
