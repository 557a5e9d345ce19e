"""The last look at a result before it leaves: whether the written object says what the reading says."""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.sr.codedict import codes
from pydicom.uid import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pydicom.valuerep import VR

from mammoscope.findings import Box
from mammoscope.results import concepts
from mammoscope.results.base import COPIED
from mammoscope.results.study import ReadMammogram, ResultError, in_hanging_order

TOLERANCE = 0.5
"""How far, in pixels, a written edge may lie from the reading's."""

Marks = dict[str, list[Box]]


def verify_against_reading(dataset: Dataset, images: Sequence[ReadMammogram]) -> None:
    """Write the object, read it back, and compare patient, study, images and coordinates with the reading.

    A secondary capture has no coordinates but pixels: of it, patient, study and images are compared.

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
    _compare_patient(written, images[0].header, name)
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
    if written.SOPClassUID == KeyObjectSelectionDocumentStorage:
        if not set(expected).isdisjoint(rejected_by_note(written)):
            raise ResultError(f"The {name} made rejects a mammogram.")
        return
    if written.SOPClassUID not in _READERS:
        raise ResultError(f"A {name} object is none of the results made here.")
    found = _READERS[written.SOPClassUID](written)
    if set(found) != set(expected):
        raise ResultError(f"The {name} made does not refer to the mammograms that were read.")
    for uid, boxes in expected.items():
        if len(boxes) != len(found[uid]):
            raise ResultError(f"The {name} made has {len(found[uid])} marks on {uid}, the reading {len(boxes)}.")
        left = list(found[uid])
        for box in boxes:
            nearest = min(left, key=lambda mark: _apart(box, mark))
            if _apart(box, nearest) > TOLERANCE:
                raise ResultError(f"A mark of the {name} made on {uid} is not where the reading has it.")
            left.remove(nearest)


def _compare_patient(written: Dataset, header: Dataset, name: str) -> None:
    differing = [keyword for keyword in COPIED if keyword in header and not _same(written, header, keyword)]
    if differing:
        raise ResultError(f"The {name} made does not have its mammogram's {', '.join(differing)}.")


def _same(written: Dataset, header: Dataset, keyword: str) -> bool:
    """By bytes where the mammogram's value is not decoded yet: a look at it would decode it for the next object too."""
    there, here = written.get_item(keyword), header.get_item(keyword)
    undecoded = isinstance(there, RawDataElement) and isinstance(here, RawDataElement)
    if undecoded and dictionary_VR(keyword) != VR.SQ:
        values = [bytes(element.value or b"").rstrip(b"\0 ") for element in (there, here)]
        return values[0] == values[1]
    return str(written.get(keyword) or "") == str(header.get(keyword) or "")


def _apart(one: Box, other: Box) -> float:
    return max(abs(a - b) for a, b in zip(one.as_tuple(), other.as_tuple(), strict=True))


def rejected_by_note(note: Dataset) -> set[str]:
    """SOP Instance UIDs of what a rejection note names, in its content or its evidence."""
    named = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in content_items(note)
        if "ReferencedSOPSequence" in item
    }
    evidence = {
        reference.ReferencedSOPInstanceUID
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    return named | evidence


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


def ai_sr_marks(document: Dataset) -> Marks:
    """The regions in an AI report, by SOP Instance UID of the image; an image of its library without any has none.

    Raises
    ------
    ResultError
        If the outline that a measurement was made from is not a region of its image.
    """
    marks: Marks = {}
    for item in content_items(document):
        if item.get("ValueType") == "IMAGE":
            marks.setdefault(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID, [])
    for item in content_items(document):
        if item.get("ValueType") == "SCOORD" and concept_value(item) == codes.DCM.ImageRegion.value:
            (source,) = item.ContentSequence
            marks[source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID].append(_box(item.GraphicData))
    for item in content_items(document):
        if item.get("ValueType") == "SCOORD" and concept_value(item) == codes.DCM.SourceOfMeasurement.value:
            (source,) = item.ContentSequence
            if _box(item.GraphicData) not in marks[source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID]:
                raise ResultError("An outline of the AI report made is not where the reading has it.")
    return marks


def segmentation_marks(dataset: Dataset) -> Marks:
    """The rectangles around the masks of a segmentation, by SOP Instance UID of the image.

    Raises
    ------
    ResultError
        If a mask is empty or is no rectangle.
    """
    marks: Marks = {}
    frames = np.asarray(dataset.pixel_array).reshape(-1, dataset.Rows, dataset.Columns)
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        rows, columns = np.flatnonzero(frame.any(axis=1)), np.flatnonzero(frame.any(axis=0))
        if not len(rows) or not frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all():
            raise ResultError("A mask of the segmentation made is no rectangle.")
        box = Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        marks.setdefault(source.ReferencedSOPInstanceUID, []).append(box)
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


_READERS: dict[str, Callable[[Dataset], Marks]] = {
    MammographyCADSRStorage: cad_sr_marks,
    Comprehensive3DSRStorage: ai_sr_marks,
    GrayscaleSoftcopyPresentationStateStorage: presentation_state_marks,
    SegmentationStorage: segmentation_marks,
}
