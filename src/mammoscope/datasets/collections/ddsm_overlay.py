"""DDSM's .OVERLAY files: abnormalities with their outlines as chain codes.

An outline begins with the column and row of its first pixel; each number after it is a step to one of eight
neighbours, 0 up and then clockwise; ``#`` ends it.
"""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mammoscope.datasets.collections.model import ABNORMALITY, CALCIFICATION, MASS, pathology_of
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.imported import Polygon

_STEPS = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))
_LABELS = {"MASS": MASS, "CALCIFICATION": CALCIFICATION}
_DESCRIBED = ("SHAPE", "MARGINS", "TYPE", "DISTRIBUTION")


@dataclass
class Abnormality:
    """One abnormality with its boundaries, each the pixels (column, row) on it."""

    label: str = ABNORMALITY
    attributes: dict[str, str] = field(default_factory=dict)
    boundaries: list[Polygon] = field(default_factory=list)


def read_overlay(path: Path) -> list[Abnormality]:
    """What an .OVERLAY file outlines. Cores lie within boundaries and are not lesions of their own.

    Raises
    ------
    DatasetError
        If it is cut or damaged, with the line.
    """
    found: list[Abnormality] = []
    outline_of_core = False
    stated = 0
    for line, text in enumerate(path.read_bytes().decode("ascii", "replace").splitlines(), 1):
        row, words = Row(path, line, {}), text.split()
        if not words:
            continue
        if words[0] == "TOTAL_ABNORMALITIES" and len(words) > 1 and words[1].isdigit():
            stated = int(words[1])
        elif words[0] == "ABNORMALITY":
            found.append(Abnormality())
        elif words[0] in ("BOUNDARY", "CORE"):
            outline_of_core = words[0] == "CORE"
        elif words[0].lstrip("-").isdigit():
            if not found:
                raise row.error("an outline comes before the first ABNORMALITY")
            if not outline_of_core:
                found[-1].boundaries.append(_outline(row, words))
        elif found:
            _describe(found[-1], words)
    if len(found) != stated or not all(abnormality.boundaries for abnormality in found):
        raise DatasetError(
            f"{path}: it states {stated} abnormalities and outlines {sum(bool(a.boundaries) for a in found)}: it is "
            "cut, copy it again from its source."
        )
    return found


def _describe(abnormality: Abnormality, words: list[str]) -> None:
    if words[0] == "LESION_TYPE" and len(words) > 1:
        label = _LABELS.get(words[1], ABNORMALITY)
        if abnormality.label == ABNORMALITY or label == MASS:  # of two types the mass is what the box is about
            abnormality.label = label
        for name, value in pairwise(words[2:]):
            if name in _DESCRIBED:
                abnormality.attributes[name.casefold()] = value
    elif words[0] in ("ASSESSMENT", "SUBTLETY") and len(words) > 1:
        abnormality.attributes["birads" if words[0] == "ASSESSMENT" else "subtlety"] = words[1]
    elif words[0] == "PATHOLOGY" and (pathology := pathology_of(" ".join(words[1:]))):
        abnormality.attributes["pathology"] = pathology


def _outline(row: Row, words: list[str]) -> Polygon:
    """The pixels (column, row) that a chain code steps through."""
    steps = words[2:-1]
    if len(words) < 4 or words[-1] != "#" or not words[1].isdigit() or not all(re.fullmatch("[0-7]", s) for s in steps):
        raise row.error("an outline is a column, a row, steps from 0 to 7 and #: the file is cut, copy it again")
    x, y = int(words[0]), int(words[1])
    pixels = [(x, y)]
    for code in steps:
        step = _STEPS[int(code)]
        x, y = x + step[0], y + step[1]
        pixels.append((x, y))
    return tuple((float(x), float(y)) for x, y in pixels)
