"""Marks of a structured report: Mammography CAD SR (PS3.16 TID 4000) and measurement reports (TID 1500)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.sr.codedict import codes

from mammoscope.datasets.formats.dicom.marks import (
    Left,
    Mark,
    Marks,
    code_value,
    is_one_of,
    kind_of,
    label_of,
    meaning,
    pairs,
    referenced_images,
    same_place,
    shape_box,
)
from mammoscope.datasets.image_marks import MarkError, PassedOverError, UnknownMarkError
from mammoscope.descriptors import CONCEPTS, IMPRESSION_DESCRIPTION, WORDS
from mammoscope.imaging import attributes

_SINGLE_IMAGE_FINDING = "111059"  # TID 4006
_MEASUREMENT_GROUP = "125007"  # TID 1410, 1411, 1501
_OUTLINES = frozenset(("111041", "111030"))  # Outline of TID 4021, Image Region of TID 1410
_FINDING = frozenset(("121071", "121069"))  # Finding, Previous Finding
_TRACKING_UID = "112040"
_CERTAINTY = "111012"
_RENDERING_INTENT, _NOT_FOR_PRESENTATION = "111056", "111152"
_IMPRESSION = "111034"
"""Individual Impression (TID 4003), whose assessment and comment are of the findings in it."""
_DETECTIONS_DONE = "111063"
"""Successful Detections (TID 4017): a container of what was searched, below it the images."""
_PROCESSING_SUMMARIES = frozenset(("111017",))
"""CAD Processing and Findings Summary (TID 4001)."""
_ALL_SUCCEEDED = frozenset(("111241", "111242"))
_CLOSED_PX = 0.5
_VALUE = "ConceptCodeSequence"
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

    Coordinates count whether they have a name or not: OHIF writes them below a measurement and names them nowhere. Of
    a finding's coordinates those called an outline or a region are its place, else whatever of them has an area.
    Findings that a CAD report says are not for presentation are passed over, as a workstation does not show them, and
    those that are no lesions, such as the nipple.
    """
    marks: list[Mark] = []
    passed_over: list[Left] = []
    unknown: list[Left] = []
    for finding, items, group in _findings(report):
        of_group = _only(uid for item in _all_items(group) for uid in _images_of(item, report))
        image = next(filter(None, (_image(item, report) for item in items)), of_group or _only_image(report))
        if finding is not None and finding.passed_over:
            passed_over.append(Left(image, finding.passed_over))
            continue
        named = [item for item in items if code_value(item, "ConceptNameCodeSequence") in _OUTLINES]
        taken: list[Mark] = []
        reasons: list[MarkError] = []
        for item in named or items:
            try:
                mark = _mark(item, _image(item, report) or of_group or _only_image(report), finding)
            except MarkError as reason:
                reasons.append(reason)
                continue
            if not any(same_place(mark, other) for other in taken):  # OHIF repeats them below each measurement
                taken.append(mark)
        marks += taken
        if not taken:
            left = unknown if any(isinstance(reason, UnknownMarkError) for reason in reasons) else passed_over
            left.append(Left(image, str(reasons[0])))
    return Marks(tuple(marks), tuple(passed_over), tuple(unknown), _negative(report))


def _findings(report: Dataset) -> list[tuple[_Finding | None, list[Dataset], Dataset]]:
    """Each finding with its coordinates and the item that holds them; coordinates of none are each for themselves."""
    found: list[tuple[_Finding | None, list[Dataset], Dataset]] = []

    def walk(item: Dataset, holder: list[Dataset] | None, impression: Dataset | None) -> None:
        name = code_value(item, "ConceptNameCodeSequence")
        if name == _IMPRESSION:
            impression = item
        if name in (_SINGLE_IMAGE_FINDING, _MEASUREMENT_GROUP):
            holder = []
            found.append((_finding(item, impression), holder, item))
        if attributes.text(item, "ValueType") in ("SCOORD", "SCOORD3D"):
            if holder is None:
                found.append((None, [item], item))
            else:
                holder.append(item)
        for child in attributes.items(item, "ContentSequence"):
            walk(child, holder, impression)

    walk(report, None, None)
    return [(finding, items, group) for finding, items, group in found if items]


def _mark(item: Dataset, image: str | None, finding: _Finding | None) -> Mark:
    """The mark of coordinates.

    Raises
    ------
    PassedOverError, UnknownMarkError
        If it is none.
    """
    if attributes.text(item, "ValueType") == "SCOORD3D":
        raise UnknownMarkError("coordinates in three dimensions")
    kind, points = attributes.text(item, "GraphicType") or "", pairs(item.get("GraphicData"))
    name = code_value(item, "ConceptNameCodeSequence")
    if kind == "POLYLINE" and len(points) > 2 and name not in _OUTLINES and not _closed(points):
        raise PassedOverError("an open line without an area")  # such as an angle that was measured
    box, polygons = shape_box(kind, points)
    if image is None:
        raise UnknownMarkError("an outline without an image")
    known = finding or _Finding(label_of(meaning(item, "ConceptNameCodeSequence")), None, {}, None)
    return Mark(image, box, known.label, polygons, known.tracking, known.said)


def _closed(points: Sequence[tuple[float, float]]) -> bool:
    (x, y), (last_x, last_y) = points[0], points[-1]
    return abs(x - last_x) <= _CLOSED_PX and abs(y - last_y) <= _CLOSED_PX


def _negative(report: Dataset) -> frozenset[str]:
    """The images that a CAD report says were searched with success; those with a mark are negative no more.

    Reports that do not list their detections count for all images of their library if they say that all algorithms
    succeeded. A measurement report says nothing of what it does not measure.
    """
    listed = [item for item in _all_items(report) if code_value(item, "ConceptNameCodeSequence") == _DETECTIONS_DONE]
    if listed:
        return frozenset(
            uid for container in listed for item in _all_items(container) for uid in _images_of(item, report)
        )
    for item in _all_items(report):
        if code_value(item, "ConceptNameCodeSequence") in _PROCESSING_SUMMARIES:
            if code_value(item, "ConceptCodeSequence") in _ALL_SUCCEEDED:
                return frozenset(uid for holder in _all_items(report) for uid in _images_of(holder, report))
            return frozenset()
    return frozenset()


def _all_items(item: Dataset) -> Iterator[Dataset]:
    for child in attributes.items(item, "ContentSequence"):
        yield child
        yield from _all_items(child)


def _images_of(item: Dataset, report: Dataset) -> Iterator[str]:
    """The images that an item is, or refers to by their place in the report."""
    path = item.get("ReferencedContentItemIdentifier")
    holder = item if path is None else _at(report, [int(step) for step in _listed(path)])
    if holder is not None:
        for reference in attributes.items(holder, "ReferencedSOPSequence"):
            if uid := attributes.text(reference, "ReferencedSOPInstanceUID"):
                yield uid


def _finding(item: Dataset, impression: Dataset | None) -> _Finding:
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
    said |= _described([*_children(impression), *_children(item)])
    tracking = children.get(_TRACKING_UID)
    intent = children.get(_RENDERING_INTENT)
    return _Finding(
        label_of(*kinds),
        attributes.text(tracking, "UID") if tracking is not None else None,
        said,
        _why_not(item, intent),
    )


def _children(item: Dataset | None) -> list[Dataset]:
    return [] if item is None else list(attributes.items(item, "ContentSequence"))


def _described(items: Iterable[Dataset]) -> dict[str, str]:
    """What readers said of a finding: BI-RADS category, shape and margin of its mass, and their comment.

    In the words of `mammoscope.descriptors`; a code that is not among them by its own meaning.
    """
    said: dict[str, str] = {}
    for item in items:
        for name, concept in CONCEPTS.items():
            if is_one_of(item, "ConceptNameCodeSequence", [concept]):
                known = next((word for word, code in WORDS[name].items() if is_one_of(item, _VALUE, [code])), None)
                if word := known or meaning(item, _VALUE):
                    said[name] = word
        comment = attributes.text(item, "TextValue")
        if comment and is_one_of(item, "ConceptNameCodeSequence", [IMPRESSION_DESCRIPTION]):
            said["comment"] = comment
    return said


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


def _only_image(report: Dataset) -> str | None:
    """The image of a report that has evidence of one alone."""
    evidence = attributes.items(report, "CurrentRequestedProcedureEvidenceSequence")
    return _only(uid for study in evidence for uid in referenced_images(study))


def _only(uids: Iterable[str]) -> str | None:
    """The one image that is named, if all name the same."""
    named = set(uids)
    return named.pop() if len(named) == 1 else None


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
