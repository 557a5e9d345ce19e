"""The last look at a result before it leaves: whether the written object says what the reading says."""

from collections.abc import Iterator, Sequence
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage, MammographyCADSRStorage, SecondaryCaptureImageStorage

from mammoscope.findings import Box
from mammoscope.results import concepts
from mammoscope.results.errors import ResultError
from mammoscope.results.study import ReadMammogram, in_hanging_order

TOLERANCE = 0.5
"""How far, in pixels, a written edge may lie from the reading's."""

_IDENTITY = ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber")
Marks = dict[str, list[Box]]


def verify_against_reading(dataset: Dataset, images: Sequence[ReadMammogram]) -> None:
    """Write the object, read it back, and compare patient, study, images and coordinates with the reading.

    Parameters
    ----------
    images
        Those that the object was made of, in any order.

    Raises
    ------
    ResultError
        If anything differs.
    """
    images = in_hanging_order(images)
    written = _reread(dataset)
    name = written.SOPClassUID.name
    header = images[0].header
    differing = [k for k in _IDENTITY if str(written.get(k) or "") != str(header.get(k) or "")]
    if differing:
        raise ResultError(f"The {name} made does not have its mammogram's {', '.join(differing)}.")
    expected = {
        image.sop_instance_uid: [
            box
            for finding in image.reading.findings
            if (box := finding.box.clipped(image.mammogram.rows, image.mammogram.columns))
        ]
        for image in images
    }
    if written.SOPClassUID == SecondaryCaptureImageStorage:
        sources = {item.ReferencedSOPInstanceUID for item in written.SourceImageSequence}
        if sources != set(expected):
            raise ResultError(f"The {name} made does not refer to the mammograms that it shows.")
        return
    readers = {
        MammographyCADSRStorage: cad_sr_marks,
        GrayscaleSoftcopyPresentationStateStorage: presentation_state_marks,
    }
    if written.SOPClassUID not in readers:
        raise ResultError(f"A {name} object is none of the results made here.")
    found = readers[written.SOPClassUID](written)
    if set(found) != set(expected):
        raise ResultError(f"The {name} made does not refer to the mammograms that were read.")
    for uid, boxes in expected.items():
        if len(boxes) != len(found[uid]):
            raise ResultError(f"The {name} made has {len(found[uid])} marks on {uid}, the reading {len(boxes)}.")
        for box, mark in zip(boxes, found[uid], strict=True):
            if max(abs(a - b) for a, b in zip(box.as_tuple(), mark.as_tuple(), strict=True)) > TOLERANCE:
                raise ResultError(f"A mark of the {name} made on {uid} is not where the reading has it.")


def cad_sr_marks(document: Dataset) -> Marks:
    """The outlines in a mammography CAD report, by SOP Instance UID of the image; an image without any has none."""
    marks: Marks = {}
    for item in content_items(document):
        if item.get("ValueType") == "IMAGE":
            marks.setdefault(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID, [])
    for item in content_items(document):
        if concept_value(item) == concepts.OUTLINE.value:
            path = item.ContentSequence[0].ReferencedContentItemIdentifier
            image = content_item_at(document, path)
            uid = image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            marks[uid].append(_box(item.GraphicData))
    return marks


def presentation_state_marks(state: Dataset) -> Marks:
    """The rectangles in a presentation state, by SOP Instance UID of the image."""
    marks: Marks = {}
    for annotation in state.GraphicAnnotationSequence:
        (image,) = annotation.ReferencedImageSequence
        boxes = [_box(graphic.GraphicData) for graphic in annotation.GraphicObjectSequence]
        marks.setdefault(image.ReferencedSOPInstanceUID, []).extend(boxes)
    return marks


def content_items(item: Dataset) -> Iterator[Dataset]:
    """Every content item under this one, in the order in which a reader meets them."""
    for child in item.get("ContentSequence") or []:
        yield child
        yield from content_items(child)


def content_item_at(document: Dataset, path: Sequence[int]) -> Dataset:
    """The item at a by-reference path such as ``[1, 2, 3]``.

    Raises
    ------
    ResultError
        If the path leads nowhere.
    """
    item = document
    for position in list(path)[1:]:
        children = item.get("ContentSequence") or []
        if not 1 <= position <= len(children):
            raise ResultError(f"A reference of the CAD report made leads nowhere: {'.'.join(map(str, path))}.")
        item = children[position - 1]
    return item


def concept_value(item: Dataset) -> str | None:
    """Code value of an item's concept name."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else None


def _box(data: Sequence[float]) -> Box:
    columns, rows = data[0::2], data[1::2]
    return Box(min(columns), min(rows), max(columns), max(rows))


def _reread(dataset: Dataset) -> Dataset:
    with BytesIO() as buffer:
        dataset.save_as(buffer, enforce_file_format=True)
        buffer.seek(0)
        return dcmread(buffer)
