"""Marks of a structured report: Mammography CAD SR (PS3.16 TID 4000) and measurement reports (TID 1500)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.sr.codedict import codes

from mammoscope.datasets.formats.dicom.marks import (
    Mark,
    Marks,
    code_value,
    is_one_of,
    kind_of,
    label_of,
    meaning,
    pairs,
    shape_box,
)
from mammoscope.imaging import attributes

_SINGLE_IMAGE_FINDING = "111059"  # TID 4006
_MEASUREMENT_GROUP = "125007"  # TID 1410, 1411, 1501
_OUTLINES = frozenset(("111041", "111030"))  # Outline of TID 4021, Image Region of TID 1410
_FINDING = frozenset(("121071", "121069"))  # Finding, Previous Finding
_TRACKING_UID = "112040"
_CERTAINTY = "111012"
_RENDERING_INTENT, _NOT_FOR_PRESENTATION = "111056", "111152"
_ASSESSMENT = "111037"
_NO_LESION = [  # of CID 6014
    codes.cid6014.BreastComposition,
    codes.cid6014.BreastGeometry,
    codes.cid6014.ImageQuality,
    codes.cid6014.Nipple,
    codes.cid6014.NonLesion,
    codes.cid6014.SelectedRegion,
]


@dataclass(frozen=True, slots=True)
class _Finding:
    """The finding whose content item holds the outlines below it."""

    label: str
    tracking: str | None
    said: dict[str, Any]
    passed_over: str | None
    """Why it is not taken."""


def report_marks(report: Dataset) -> Marks:
    """Outlines in a report, with the finding that they belong to.

    Findings that a CAD report says are not for presentation are passed over, as a workstation does not show them, and
    those that are no lesions, such as the nipple.
    """
    marks: list[Mark] = []
    passed_over: list[str] = []
    for item, finding in _outlines(report, None):
        image = _image(item, report)
        box, polygons = shape_box(attributes.text(item, "GraphicType") or "", pairs(item.get("GraphicData")))
        if finding is not None and finding.passed_over:
            passed_over.append(finding.passed_over)
        elif image is None or box is None:
            passed_over.append("an outline without an area" if image else "an outline without an image")
        else:
            known = finding or _Finding(label_of(meaning(item, "ConceptNameCodeSequence")), None, {}, None)
            marks.append(Mark(image, box, known.label, polygons, known.tracking, known.said))
    return Marks(tuple(marks), tuple(passed_over))


def _outlines(item: Dataset, finding: _Finding | None) -> Iterator[tuple[Dataset, _Finding | None]]:
    name = code_value(item, "ConceptNameCodeSequence")
    if name in (_SINGLE_IMAGE_FINDING, _MEASUREMENT_GROUP):
        finding = _finding(item)
    if attributes.text(item, "ValueType") == "SCOORD" and name in _OUTLINES:
        yield item, finding
    for child in attributes.items(item, "ContentSequence"):
        yield from _outlines(child, finding)


def _finding(item: Dataset) -> _Finding:
    children: dict[str | None, Dataset] = {}
    for child in attributes.items(item, "ContentSequence"):
        children.setdefault(code_value(child, "ConceptNameCodeSequence"), child)
    # of a Single Image Finding the kind is its own value, of a measurement group that of a child
    said_by = [item, *(children[name] for name in _FINDING if name in children)]
    kinds = [kind_of(holder, "ConceptCodeSequence") for holder in said_by]
    said: dict[str, Any] = {}
    if kind := next(filter(None, kinds), None):
        said["finding"] = kind
    certainty = children.get(_CERTAINTY)
    for measured in attributes.items(certainty, "MeasuredValueSequence") if certainty is not None else ():
        if (percent := attributes.number(measured, "NumericValue")) is not None:
            said["certainty_percent"] = percent
    if _ASSESSMENT in children and (assessment := meaning(children[_ASSESSMENT], "ConceptCodeSequence")):
        said["assessment"] = assessment
    tracking = children.get(_TRACKING_UID)
    intent = children.get(_RENDERING_INTENT)
    return _Finding(
        label_of(*kinds),
        attributes.text(tracking, "UID") if tracking is not None else None,
        said,
        _why_not(item, intent),
    )


def _why_not(item: Dataset, intent: Dataset | None) -> str | None:
    if intent is not None and code_value(intent, "ConceptCodeSequence") == _NOT_FOR_PRESENTATION:
        return "a finding that is not for presentation"
    if is_one_of(item, "ConceptCodeSequence", _NO_LESION):
        return f"no lesion but the finding {meaning(item, 'ConceptCodeSequence')!r}"
    return None


def _image(item: Dataset, report: Dataset) -> str | None:
    """The image that coordinates are selected from: given there, or by the path to its place in the report."""
    for child in attributes.items(item, "ContentSequence"):
        if attributes.text(child, "RelationshipType") != "SELECTED FROM":
            continue
        path = child.get("ReferencedContentItemIdentifier")
        holder = child if path is None else _at(report, [int(step) for step in _listed(path)])
        for reference in attributes.items(holder, "ReferencedSOPSequence") if holder is not None else ():
            return attributes.text(reference, "ReferencedSOPInstanceUID")
    return None


def _listed(path: Any) -> list[Any]:
    return list(path) if hasattr(path, "__iter__") else [path]


def _at(report: Dataset, path: list[int]) -> Dataset | None:
    """The content item at a path, which begins with 1 for the report itself (PS3.3 C.17.3.2.5)."""
    item = report
    for step in path[1:]:
        children = attributes.items(item, "ContentSequence")
        if not 1 <= step <= len(children):
            return None
        item = children[step - 1]
    return item
