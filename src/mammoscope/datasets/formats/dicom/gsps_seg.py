"""Marks of a presentation state: its graphic annotations (DICOM PS3.3 C.10.5).

Marks of a segmentation object: the parts of its segments (DICOM PS3.3 A.51).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mammoscope.datasets.formats.dicom.marks import Mark, Marks, kind_of, label_of, pairs, shape_box
from mammoscope.datasets.masks import parts_of
from mammoscope.imaging import attributes


def presentation_marks(state: Dataset) -> Marks:
    """Closed figures of a presentation state; lines, points and bare texts mark no area.

    PIXEL and MATRIX units count from the top left corner of the top left pixel. DISPLAY units are parts of the
    displayed area, which is turned back only where the state does not rotate or flip the image.
    """
    marks: list[Mark] = []
    passed_over: list[str] = []
    for annotation in attributes.items(state, "GraphicAnnotationSequence"):
        images = _images(annotation) or _images_of_state(state)
        graphics = attributes.items(annotation, "GraphicObjectSequence")
        for position, graphic in enumerate(graphics):
            kind = attributes.text(graphic, "GraphicType") or ""
            points = _in_pixels(state, graphic)
            if points is None:
                passed_over.append("a graphic in display units of a turned or unknown display")
                continue
            box, polygons = shape_box(kind, points)
            if box is None:
                passed_over.append(f"a {kind.lower()} without an area")
                continue
            text = _text(annotation, graphic, position, len(graphics))
            said = {"text": text} if text else {}
            tracking = attributes.text(graphic, "TrackingUID")
            label = label_of(text, attributes.text(graphic, "TrackingID"), attributes.text(state, "ContentLabel"))
            marks += [Mark(image, box, label, polygons, tracking, said) for image in images]
    return Marks(tuple(marks), tuple(passed_over))


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
    if attributes.text(graphic, "GraphicAnnotationUnits") != "DISPLAY":
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

    A frame without a source image belongs to the only image that the object refers to. Of fractional segments, what is
    at least half inside counts.
    """
    segments = {
        int(s.SegmentNumber): s for s in attributes.items(segmentation, "SegmentSequence") if "SegmentNumber" in s
    }
    only = _only_image(segmentation)
    shared = attributes.items(segmentation, "SharedFunctionalGroupsSequence")
    marks: list[Mark] = []
    passed_over: list[str] = []
    groups = attributes.items(segmentation, "PerFrameFunctionalGroupsSequence")
    for frame, group in zip(_frames(segmentation), groups, strict=False):
        number = _segment_number(group) or (_segment_number(shared[0]) if shared else None)
        image = _source(group) or (_source(shared[0]) if shared else None) or only
        segment = segments.get(number or 0)
        if segment is None or image is None:
            passed_over.append("a frame without a segment" if image else "a frame without an image")
            continue
        name = attributes.text(segment, "SegmentLabel")
        kind = kind_of(segment, "SegmentedPropertyTypeCodeSequence")
        said = {key: value for key, value in (("segment", name), ("finding", kind)) if value}
        tracking = attributes.text(segment, "TrackingUID")
        if not frame.any():
            continue
        marks += [Mark(image, box, label_of(kind, name), (), tracking, said) for box in parts_of(frame)]
    return Marks(tuple(marks), tuple(passed_over))


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
