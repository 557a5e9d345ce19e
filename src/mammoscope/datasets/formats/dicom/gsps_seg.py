"""Marks of a presentation state: its graphic annotations (DICOM PS3.3 C.10.5).

Marks of a segmentation object: the parts of its segments (DICOM PS3.3 A.51).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mammoscope.datasets.formats.dicom.marks import Left, Mark, Marks, kind_of, label_of, pairs, shape_box
from mammoscope.datasets.image_marks import PassedOverError, Polygon, UnknownMarkError
from mammoscope.datasets.masks import parts_of
from mammoscope.descriptors import Description
from mammoscope.findings import Box
from mammoscope.imaging import attributes

_OVERLAY_DATA = 0x3000
"""Element of Overlay Data, in the groups 6000 to 601E."""


def presentation_marks(state: Dataset) -> Marks:
    """Closed figures of a presentation state; lines, points and bare texts mark no area.

    PIXEL and MATRIX units count from the top left corner of the top left pixel. DISPLAY units are parts of the
    displayed area, which is turned back only where the state does not rotate or flip the image.
    """
    marks: list[Mark] = []
    passed_over: list[Left] = []
    unknown: list[Left] = []
    for annotation in attributes.items(state, "GraphicAnnotationSequence"):
        images = _images(annotation) or _images_of_state(state)
        graphics = attributes.items(annotation, "GraphicObjectSequence")
        drawn = {attributes.number(graphic, "CompoundGraphicInstanceID") for graphic in graphics} - {None}
        compound = [
            graphic for graphic in attributes.items(annotation, "CompoundGraphicSequence")
            if attributes.number(graphic, "CompoundGraphicInstanceID") not in drawn  # else it is there in plain, too
        ]  # fmt: skip
        if not graphics and not compound and attributes.items(annotation, "TextObjectSequence"):
            passed_over += [Left(image, "a text without a graphic") for image in images]
        for position, graphic in enumerate([*graphics, *compound]):
            try:
                box, polygons = _shape(state, graphic)
            except PassedOverError as reason:
                passed_over += [Left(image, str(reason)) for image in images]
                continue
            except UnknownMarkError as reason:
                unknown += [Left(image, str(reason)) for image in images]
                continue
            text = _text(annotation, graphic, position, len(graphics) + len(compound))
            said = {"text": text, **Description.in_text(text).to_dict()} if text else {}
            tracking = attributes.text(graphic, "TrackingUID")
            label = label_of(text, attributes.text(graphic, "TrackingID"), attributes.text(state, "ContentLabel"))
            marks += [Mark(image, box, label, polygons, tracking, said) for image in images]
    if any(0x6000 <= tag.group <= 0x601E and tag.element == _OVERLAY_DATA for tag in state.keys()):  # noqa: SIM118
        unknown += [Left(image, "a bitmap overlay") for image in _images_of_state(state)]
    return Marks(tuple(marks), tuple(passed_over), tuple(unknown))


def _shape(state: Dataset, graphic: Dataset) -> tuple[Box, tuple[Polygon, ...]]:
    compound = attributes.text(graphic, "CompoundGraphicType")
    points = _in_pixels(state, graphic)
    if points is None:
        raise UnknownMarkError("a graphic in display units of a turned or unknown display")
    if compound is None:
        return shape_box(attributes.text(graphic, "GraphicType") or "", points)
    if compound not in ("RECTANGLE", "ELLIPSE"):
        raise PassedOverError(f"a compound {compound.lower()} without an area")
    if len(points) != 2 or attributes.number(graphic, "RotationAngle"):
        raise UnknownMarkError(f"a turned compound {compound.lower()}")
    (x0, y0), (x1, y1) = points  # of the rectangle, or of the one around the ellipse
    return shape_box("POLYLINE", [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _images(holder: Dataset) -> list[str]:
    return [
        uid
        for item in attributes.items(holder, "ReferencedImageSequence")
        if (uid := attributes.text(item, "ReferencedSOPInstanceUID"))
    ]


def _images_of_state(state: Dataset) -> list[str]:
    """Without images of its own, an annotation is of all of the state's (PS3.3 C.10.5)."""
    return [uid for series in attributes.items(state, "ReferencedSeriesSequence") for uid in _images(series)]


def _in_pixels(state: Dataset, graphic: Dataset) -> list[tuple[float, float]] | None:
    points = pairs(graphic.get("GraphicData"))
    units = attributes.text(graphic, "GraphicAnnotationUnits") or attributes.text(graphic, "CompoundGraphicUnits")
    if units != "DISPLAY":
        return points
    areas = attributes.items(state, "DisplayedAreaSelectionSequence")
    turned = attributes.number(state, "ImageRotation") or attributes.text(state, "ImageHorizontalFlip") == "Y"
    if turned or len(areas) != 1:
        return None
    left, top = attributes.numbers(areas[0], "DisplayedAreaTopLeftHandCorner")
    right, bottom = attributes.numbers(areas[0], "DisplayedAreaBottomRightHandCorner")
    if None in (left, top, right, bottom):
        return None
    assert left is not None and top is not None and right is not None and bottom is not None  # noqa: PT018
    return [(left - 1 + x * (right - left + 1), top - 1 + y * (bottom - top + 1)) for x, y in points]


def _text(annotation: Dataset, graphic: Dataset, position: int, graphics: int) -> str | None:
    """The text that belongs to a graphic: with its Tracking UID, or else the only one, or the one at its place."""
    texts = attributes.items(annotation, "TextObjectSequence")
    tracking = attributes.text(graphic, "TrackingUID")
    tracked = [text for text in texts if tracking and attributes.text(text, "TrackingUID") == tracking]
    if tracked:
        return attributes.text(tracked[0], "UnformattedTextValue")
    if len(texts) in (1, graphics):
        return attributes.text(texts[position if len(texts) == graphics else 0], "UnformattedTextValue")
    return None


def segmentation_marks(segmentation: Dataset) -> Marks:
    """A box for each connected part of each segment on each image.

    A frame with nothing in it says so of its image. A frame without a source image belongs to the only image that the
    object refers to. Of fractional segments, what is at least half inside counts.
    """
    segments = {
        int(s.SegmentNumber): s for s in attributes.items(segmentation, "SegmentSequence") if "SegmentNumber" in s
    }
    only = _only_image(segmentation)
    shared = attributes.items(segmentation, "SharedFunctionalGroupsSequence")
    marks: list[Mark] = []
    unknown: list[Left] = []
    empty: set[str] = set()
    groups = attributes.items(segmentation, "PerFrameFunctionalGroupsSequence")
    for frame, group in zip(_frames(segmentation), groups, strict=False):
        number = _segment_number(group) or (_segment_number(shared[0]) if shared else None)
        image = _source(group) or (_source(shared[0]) if shared else None) or only
        segment = segments.get(number or 0)
        if segment is None or image is None:
            unknown.append(Left(image, "a frame without a segment" if image else "a frame without an image"))
            continue
        name = attributes.text(segment, "SegmentLabel")
        kind = kind_of(segment, "SegmentedPropertyTypeCodeSequence")
        said = {key: value for key, value in (("segment", name), ("finding", kind)) if value}
        tracking = attributes.text(segment, "TrackingUID")
        if not frame.any():
            empty.add(image)
            continue
        marks += [Mark(image, box, label_of(kind, name), (), tracking, said) for box in parts_of(frame)]
    return Marks(tuple(marks), unknown=tuple(unknown), negative=frozenset(empty))


def _frames(segmentation: Dataset) -> list[NDArray[np.bool_]]:
    pixels: NDArray[Any] = segmentation.pixel_array
    frames = pixels[None] if pixels.ndim == 2 else pixels
    whole = attributes.number(segmentation, "MaximumFractionalValue") or 1
    return [np.asarray(2 * frame.astype(np.float32) >= whole, dtype=np.bool_) for frame in frames]


def _segment_number(group: Dataset) -> int | None:
    for item in attributes.items(group, "SegmentIdentificationSequence"):
        if (number := attributes.number(item, "ReferencedSegmentNumber")) is not None:
            return int(number)
    return None


def _source(group: Dataset) -> str | None:
    for derivation in attributes.items(group, "DerivationImageSequence"):
        for source in attributes.items(derivation, "SourceImageSequence"):
            return attributes.text(source, "ReferencedSOPInstanceUID")
    return None


def _only_image(segmentation: Dataset) -> str | None:
    uids = {
        uid
        for series in attributes.items(segmentation, "ReferencedSeriesSequence")
        for instance in attributes.items(series, "ReferencedInstanceSequence")
        if (uid := attributes.text(instance, "ReferencedSOPInstanceUID"))
    }
    return uids.pop() if len(uids) == 1 else None
