"""A content tree of a structured report: build it from typed items, then encode it.

An item knows its own kind, its relationship to its parent and its children (DICOM PS3.3 C.17.3). A by-reference
relationship points at the item itself; its path of positions, ``1.2.3``, is worked out when the tree is encoded, so
that it cannot go stale. highdicom is not used here: it has no by-reference relationships and wants a name on IMAGE
items, and a mammography CAD report needs the one and forbids the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from pydicom import Dataset
from pydicom.sr.coding import Code

_MAX_DECIMAL_STRING = 16


class Relationship(StrEnum):
    """How an item relates to its parent (PS3.3 Table C.17.3-8)."""

    CONTAINS = "CONTAINS"
    HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
    HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
    HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
    HAS_PROPERTIES = "HAS PROPERTIES"
    INFERRED_FROM = "INFERRED FROM"
    SELECTED_FROM = "SELECTED FROM"


BY_REFERENCE = frozenset({Relationship.HAS_PROPERTIES, Relationship.INFERRED_FROM, Relationship.SELECTED_FROM})
"""What a mammography CAD report allows by reference (PS3.3 Table A.35.5-2)."""


class ValueType(StrEnum):
    """What an item holds (PS3.3 Table C.17.3-7)."""

    CODE = "CODE"
    CONTAINER = "CONTAINER"
    DATE = "DATE"
    IMAGE = "IMAGE"
    NUM = "NUM"
    SCOORD = "SCOORD"
    TEXT = "TEXT"
    TIME = "TIME"
    UIDREF = "UIDREF"


class GraphicType(StrEnum):
    """Shape of spatial coordinates (PS3.3 C.18.6.1.2)."""

    POINT = "POINT"
    POLYLINE = "POLYLINE"


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One content item with its children, in the order in which they are written.

    Parameters
    ----------
    relationship
        To the parent; ``None`` for the root.
    name
        Concept name; ``None`` only where the template has none (IMAGE).
    value
        The attributes that hold the value, as the value type wants them.
    """

    relationship: Relationship | None
    value_type: ValueType
    name: Code | None
    value: Dataset = field(default_factory=Dataset)
    children: tuple["Item | Reference", ...] = ()

    def with_children(self, *children: "Item | Reference") -> Self:
        """The same item with these children after those that it has."""
        return type(self)(self.relationship, self.value_type, self.name, self.value, self.children + children)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A by-reference relationship to an item elsewhere in the same tree (PS3.3 C.17.3.2.5)."""

    relationship: Relationship
    target: Item

    def __post_init__(self) -> None:
        if self.relationship not in BY_REFERENCE:
            raise ValueError(f"a mammography CAD report has no '{self.relationship}' by reference")


def container(relationship: Relationship | None, name: Code, *children: Item | Reference) -> Item:
    """A heading over its children, each separate from the next."""
    value = Dataset()
    value.ContinuityOfContent = "SEPARATE"
    return Item(relationship, ValueType.CONTAINER, name, value, children)


def code(relationship: Relationship, name: Code, meaning: Code, *children: Item | Reference) -> Item:
    """A coded value."""
    value = Dataset()
    value.ConceptCodeSequence = [code_item(meaning)]
    return Item(relationship, ValueType.CODE, name, value, children)


def text(relationship: Relationship, name: Code, content: str) -> Item:
    """Free text."""
    value = Dataset()
    value.TextValue = content
    return Item(relationship, ValueType.TEXT, name, value)


def date(relationship: Relationship, name: Code, day: str) -> Item:
    """A date as DICOM writes it, YYYYMMDD."""
    value = Dataset()
    value.Date = day
    return Item(relationship, ValueType.DATE, name, value)


def time(relationship: Relationship, name: Code, moment: str) -> Item:
    """A time as DICOM writes it, HHMMSS with an optional fraction."""
    value = Dataset()
    value.Time = moment
    return Item(relationship, ValueType.TIME, name, value)


def uid_reference(relationship: Relationship, name: Code, uid: str) -> Item:
    """A UID that is a value, not a reference to an object."""
    value = Dataset()
    value.UID = uid
    return Item(relationship, ValueType.UIDREF, name, value)


def num(relationship: Relationship, name: Code, number: float, unit: Code) -> Item:
    """A number with its UCUM unit."""
    measured = Dataset()
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    measured.NumericValue = f"{number:.10g}"[:_MAX_DECIMAL_STRING]
    value = Dataset()
    value.MeasuredValueSequence = [measured]
    return Item(relationship, ValueType.NUM, name, value)


def image(relationship: Relationship, sop_class: str, sop_instance: str, *children: Item | Reference) -> Item:
    """An image, without a concept name as the image library has it."""
    value = Dataset()
    value.ReferencedSOPSequence = [sop_reference(sop_class, sop_instance)]
    return Item(relationship, ValueType.IMAGE, None, value, children)


def scoord(
    relationship: Relationship,
    name: Code,
    shape: GraphicType,
    points: Sequence[tuple[float, float]],
    selected_from: Item,
) -> Item:
    """Positions in an image of the same tree.

    Parameters
    ----------
    points
        (column, row) pairs; (0, 0) is the top left corner of the top left pixel, (columns, rows) the bottom right
        corner of the bottom right one (PS3.3 Table C.18.6-1), which is also how `mammoscope.findings.Box` counts.
    selected_from
        The IMAGE item.
    """
    value = Dataset()
    value.GraphicType = str(shape)
    value.GraphicData = [float(v) for point in points for v in point]
    return Item(relationship, ValueType.SCOORD, name, value, (Reference(Relationship.SELECTED_FROM, selected_from),))


def code_item(concept: Code) -> Dataset:
    """One item of a code sequence (PS3.3 Table 8.8-1)."""
    item = Dataset()
    item.CodeValue = concept.value
    item.CodingSchemeDesignator = concept.scheme_designator
    if concept.scheme_version:
        item.CodingSchemeVersion = concept.scheme_version
    item.CodeMeaning = concept.meaning
    return item


def sop_reference(sop_class: str, sop_instance: str) -> Dataset:
    """One item of a sequence that references SOP instances (PS3.3 Table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_instance
    return item


def encode(root: Item) -> Dataset:
    """Encode the whole tree as the attributes of a document's root.

    Raises
    ------
    ValueError
        If a reference points at an item outside the tree, or an item stands in it twice.
    """
    paths: dict[int, tuple[int, ...]] = {}
    for path, item in _walk(root, (1,)):
        if id(item) in paths:
            raise ValueError(f"the {item.value_type} item at {path} is in the tree twice")
        paths[id(item)] = path
    return _encode(root, paths)


def _walk(item: Item, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Item]]:
    yield path, item
    for position, child in enumerate(item.children, start=1):
        if isinstance(child, Item):
            yield from _walk(child, (*path, position))


def _encode(item: Item, paths: dict[int, tuple[int, ...]]) -> Dataset:
    dataset = Dataset()
    if item.relationship is not None:
        dataset.RelationshipType = str(item.relationship)
    dataset.ValueType = str(item.value_type)
    if item.name is not None:
        dataset.ConceptNameCodeSequence = [code_item(item.name)]
    dataset.update(item.value)
    if item.children:
        dataset.ContentSequence = [
            _encode(child, paths) if isinstance(child, Item) else _encode_reference(child, paths)
            for child in item.children
        ]
    return dataset


def _encode_reference(reference: Reference, paths: dict[int, tuple[int, ...]]) -> Dataset:
    path = paths.get(id(reference.target))
    if path is None:
        raise ValueError(f"a reference points at a {reference.target.value_type} item outside the tree")
    dataset = Dataset()
    dataset.RelationshipType = str(reference.relationship)
    dataset.ReferencedContentItemIdentifier = list(path)
    return dataset
