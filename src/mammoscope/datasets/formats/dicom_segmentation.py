"""Marks of a segmentation object: the parts of its segments (DICOM PS3.3 A.51)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mammoscope.datasets.formats.dicom_marks import Mark, Marks, kind_of, label_of
from mammoscope.datasets.masks import parts_of
from mammoscope.imaging import attributes


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
