"""What DICOM annotation objects have in common: a mark on an image, and small readings of their headers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pydicom.sr.coding import Code

from mammoscope.datasets.identity import kinds_in
from mammoscope.datasets.image_marks import PassedOverError, Polygon, UnknownMarkError
from mammoscope.findings import Box
from mammoscope.imaging import attributes

_KINDS = {  # beginnings of words in the meanings of codes and in labels
    "mass": "Mass",
    "calcif": "Calcification",
    "microcalcif": "Calcification",
    "distort": "Architectural distortion",
    "asymmetr": "Asymmetry",
    "lymph": "Lymph node",
}
_MASS_ON_ONE_IMAGE = Code("129793001", "SCT", "Mammography breast density")  # CID 6014 has no word for it above
UNKNOWN = "Abnormality"
"""Where an object marks a place without saying what is there."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One marked place on one image.

    Parameters
    ----------
    image
        SOP Instance UID of the image.
    tracking
        The Tracking UID, which a finding keeps in all objects that show it; ``None`` where there is none.
    said
        What the object calls it.
    """

    image: str
    box: Box
    label: str
    polygons: tuple[Polygon, ...] = ()
    tracking: str | None = None
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Left:
    """A mark that was not taken: on which image, if it says, and why, a phrase."""

    image: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Marks:
    """What one object marks.

    Parameters
    ----------
    passed_over
        Marks that are understood and are no lesion's area.
    unknown
        Marks that are not understood.
    negative
        SOP Instance UIDs of images of which the object says that there is no lesion. To refer to an image says nothing.
    """

    marks: tuple[Mark, ...]
    passed_over: tuple[Left, ...] = ()
    unknown: tuple[Left, ...] = ()
    negative: frozenset[str] = frozenset()


def label_of(*texts: str | None) -> str:
    """The class that words name: the first of the texts that names one; `UNKNOWN` where none does."""
    for text in texts:
        if kinds := kinds_in(text or "", _KINDS):
            return kinds[0]
    return UNKNOWN


def box_of(points: Sequence[tuple[float, float]]) -> tuple[Box | None, tuple[Polygon, ...]]:
    """The box around points and their outline, if they have an area; a rectangle needs no outline beside its box."""
    if len(points) < 2:
        return None, ()
    xs, ys = [x for x, _ in points], [y for _, y in points]
    try:
        box = Box(min(xs), min(ys), max(xs), max(ys))
    except ValueError:
        return None, ()
    corners = points[:-1] if points[0] == points[-1] else points
    rectangle = set(corners) == {(x, y) for x in (box.x0, box.x1) for y in (box.y0, box.y1)}
    return box, () if len(corners) < 3 or rectangle else (tuple(corners),)


def ellipse_box(ends: Sequence[tuple[float, float]]) -> Box | None:
    """The box of an ellipse by the ends of its two axes (PS3.3 C.10.5.1.2, C.18.6.1.2)."""
    if len(ends) != 4:
        return None
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = ends
    x, y = (ax + bx) / 2, (ay + by) / 2
    half_x = ((bx - ax) ** 2 + (dx - cx) ** 2) ** 0.5 / 2
    half_y = ((by - ay) ** 2 + (dy - cy) ** 2) ** 0.5 / 2
    return Box(x - half_x, y - half_y, x + half_x, y + half_y) if half_x > 0 and half_y > 0 else None


def circle_box(points: Sequence[tuple[float, float]]) -> Box | None:
    """The box of a circle by its centre and a point on it."""
    if len(points) != 2:
        return None
    (x, y), (px, py) = points
    radius = float(((px - x) ** 2 + (py - y) ** 2) ** 0.5)
    return Box(x - radius, y - radius, x + radius, y + radius) if radius > 0 else None


def shape_box(kind: str, points: Sequence[tuple[float, float]]) -> tuple[Box, tuple[Polygon, ...]]:
    """The box of a graphic of any kind with an area, and its outline.

    Raises
    ------
    PassedOverError
        If it is a point or a line, or has no area.
    UnknownMarkError
        If it is of a kind that is not known.
    """
    box: Box | None = None
    polygons: tuple[Polygon, ...] = ()
    if kind == "CIRCLE":
        box = circle_box(points)
    elif kind == "ELLIPSE":
        box = ellipse_box(points)
    elif kind in ("POLYLINE", "POLYGON", "INTERPOLATED"):
        box, polygons = box_of(points) if len(points) > 2 else (None, ())
    elif kind not in ("POINT", "MULTIPOINT"):
        raise UnknownMarkError(f"a graphic of the type {kind[:20]!r}")
    if box is None:
        raise PassedOverError(f"a {kind.lower()} without an area")
    return box, polygons


SAME_PX = 0.01
"""Boxes on one image whose edges differ by no more are of one finding."""


def same_place(one: Mark, other: Mark) -> bool:
    """Whether two marks have the same box on the same image."""
    edges = zip(one.box.as_tuple(), other.box.as_tuple(), strict=True)
    return one.image == other.image and all(abs(a - b) <= SAME_PX for a, b in edges)


def pairs(values: Iterable[Any] | None) -> list[tuple[float, float]]:
    """(x, y) pairs of Graphic Data."""
    numbers = [float(value) for value in values or ()]
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def referenced_images(dataset: Dataset) -> Iterator[str]:
    """The SOP Instance UID of every object that a dataset refers to, wherever it does."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from referenced_images(item)
        elif element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)


def kind_of(item: Dataset, keyword: str) -> str | None:
    """A word for `label_of` from the first code of a sequence."""
    return "Mass" if is_one_of(item, keyword, [_MASS_ON_ONE_IMAGE]) else meaning(item, keyword)


def is_one_of(item: Dataset, keyword: str, concepts: Iterable[Code]) -> bool:
    """Whether the first code of a sequence is one of those concepts, in SNOMED CT or the retired SNOMED RT."""
    for code in attributes.items(item, keyword)[:1]:
        value, scheme = attributes.code(code), attributes.text(code, "CodingSchemeDesignator")
        if value and scheme:
            return any(Code(value, scheme, "", concept.scheme_version) == concept for concept in concepts)
    return False


def meaning(item: Dataset, keyword: str) -> str | None:
    """The meaning of the first code of a sequence."""
    return next((attributes.text(code, "CodeMeaning") for code in attributes.items(item, keyword)), None)


def code_value(item: Dataset, keyword: str) -> str | None:
    """The value of the first code of a sequence."""
    return next((attributes.code(code) for code in attributes.items(item, keyword)), None)
