"""Segmentation: the boxes as an object of their own, one segment a finding, for viewers and tools that read masks.

A box is no outline of a mass: the segment says where the model looks, not where the lesion ends.
"""

from collections.abc import Sequence
from datetime import datetime

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

from mammoscope.findings import Algorithm, Box
from mammoscope.imaging import attributes
from mammoscope.results.base import (
    ResultReference,
    ResultSeries,
    device_uid,
    finished,
    image_reference,
    image_result_details,
    printable,
)
from mammoscope.results.mammography_cad_sr import FEATURE_CODES, breast_of, orientation_of, uncoded_classes
from mammoscope.results.study import (
    ReadMammogram,
    ResultError,
    TrackedFinding,
    result_uid,
    tracked_findings,
)

_MAX_LONG_STRING = 64

_SPACINGS = {
    "PixelSpacing": "Pixel spacing: that of the image (Pixel Spacing).",
    "ImagerPixelSpacing": "Pixel spacing: at the detector, not in the breast (Imager Pixel Spacing).",
    "NominalScannedPixelSpacing": "Pixel spacing: on the film (Nominal Scanned Pixel Spacing).",
}
"""By the attribute of the mammogram that the spacing is taken from, the best first."""
_UNKNOWN_SPACING = "Pixel spacing: unknown."
_COMPRESSED_BREAST = "Slice thickness: the compressed breast."
_NOMINAL = "Slice thickness: nominal, the breast's is unknown."

_MOST_BYTES = 2**29
"""Of masks before they are packed; the largest mammogram with so many findings that it matters has no use for them."""


def segmentation_obstacle(read: ReadMammogram) -> str | None:
    """Why this image cannot have a segmentation, or ``None`` if it can."""
    if not read.reading.findings:
        return "it has no findings"
    if uncoded := uncoded_classes(read):
        return f"there is no code for findings of the class {', '.join(uncoded)}"
    if read.mammogram.rows * read.mammogram.columns * len(read.reading.findings) > _MOST_BYTES:
        return f"{len(read.reading.findings)} findings are too many masks for an image of its size"
    return None


def segmentation(
    image: ReadMammogram,
    algorithm: Algorithm,
    *,
    now: datetime | None = None,
    supersedes: Sequence[ResultReference] = (),
) -> FileDataset:
    """The findings of one mammogram as binary masks of its size, one segment each (PS3.3 A.51).

    A pixel is in the mask where the box, with its edges rounded to pixels, covers it. Tracking UIDs are those of the
    CAD report.

    Parameters
    ----------
    now
        Date and time of creation; the clock's unless given.
    supersedes
        The objects of the study's earlier reports, oldest first.

    Raises
    ------
    ResultError
        If the image cannot have one (see `segmentation_obstacle`).
    """
    if obstacle := segmentation_obstacle(image):
        raise ResultError(f"{image.mammogram.name} cannot have a segmentation: {obstacle}.")
    tracked = tracked_findings(image, algorithm)
    series = ResultSeries.SEGMENTATION
    made = hd.seg.Segmentation(
        source_images=[image_reference(image.header)],
        pixel_array=_masks([finding.box for finding in tracked], image.mammogram.rows, image.mammogram.columns),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(finding, image, algorithm) for finding in tracked],
        device_serial_number=device_uid(algorithm),
        **image_result_details(series, image, algorithm, "boxes", supersedes),
    )
    dataset = finished(made, image, series, algorithm, now)
    _name_dimensions(dataset, result_uid("dimensions", dataset.SOPInstanceUID, algorithm))
    dataset.PatientOrientation = list(orientation_of(image) or ())  # the masks lie as the image does
    _say_how_large_pixels_are(dataset, image)
    return dataset


def _say_how_large_pixels_are(dataset: Dataset, image: ReadMammogram) -> None:
    """Pixel Measures (PS3.3 C.7.6.16.2.1), and in each segment's description what kind of spacing that is.

    Readers of masks want a slice thickness beside the spacing: highdicom refuses an object without. That of a
    projection is the breast that it looks through. No plane position nor orientation: a projection is no plane in the
    patient.
    """
    spacings = {kind: attributes.pair(image.header, kind) for kind in _SPACINGS}
    kind, spacing = next(((kind, found) for kind, found in spacings.items() if found), (None, None))
    thickness = attributes.number(image.header, "BodyPartThickness")
    said = _UNKNOWN_SPACING
    if kind is not None and spacing is not None:
        said = f"{_SPACINGS[kind]} {_COMPRESSED_BREAST if thickness else _NOMINAL}"
        measures = Dataset()
        measures.PixelSpacing = [DSfloat(mm, auto_format=True) for mm in (spacing.row_mm, spacing.column_mm)]
        measures.SliceThickness = DSfloat(thickness or 1.0, auto_format=True)
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [measures]
    for segment in dataset.SegmentSequence:
        segment.SegmentDescription = f"Box around a finding, no outline of it. {said}"


def _name_dimensions(dataset: Dataset, uid: str) -> None:
    """Give the dimensions a UID that follows from the object's; highdicom's is another one each time."""
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _masks(boxes: Sequence[Box], rows: int, columns: int) -> NDArray[np.bool_]:
    masks = np.zeros((1, rows, columns, len(boxes)), dtype=bool)
    for number, box in enumerate(boxes):
        left, top = round(box.x0), round(box.y0)
        # A box less than a pixel wide still marks one.
        right, bottom = max(round(box.x1), left + 1), max(round(box.y1), top + 1)
        masks[0, top:bottom, left:right, number] = True
    return masks


def _segment(tracked: TrackedFinding, image: ReadMammogram, algorithm: Algorithm) -> hd.seg.SegmentDescription:
    made_by = hd.AlgorithmIdentificationSequence(
        name=printable(algorithm.name)[:_MAX_LONG_STRING],
        family=codes.cid7162.ArtificialIntelligence,
        version=printable(algorithm.version)[:_MAX_LONG_STRING],
    )
    return hd.seg.SegmentDescription(
        segment_number=tracked.number,
        segment_label=printable(f"{tracked.finding.label} {tracked.number}, {tracked.percent}")[:_MAX_LONG_STRING],
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=FEATURE_CODES[tracked.finding.label.casefold()],
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=made_by,
        tracking_uid=tracked.tracking_uid,
        tracking_id=printable(tracked.tracking_identifier),
        anatomic_regions=[breast_of(image) or codes.SCT.Breast],
    )
