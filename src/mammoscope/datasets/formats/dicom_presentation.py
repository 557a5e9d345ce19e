"""Marks of a presentation state: its graphic annotations (DICOM PS3.3 C.10.5)."""

from pydicom import Dataset

from mammoscope.datasets.formats.dicom_marks import Mark, Marks, label_of, pairs, shape_box
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
