"""Grayscale Softcopy Presentation State: the marks as any PACS viewer draws them over the mammogram.

It carries the mammogram's own VOI transformation. A presentation state stands for the whole way from stored values to
the screen: one without a VOI LUT does not leave the image's in place but means identity (PS3.4 N.2.1.3), and the
picture comes out dark and flat.
"""

from collections.abc import Sequence
from datetime import datetime

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.valuerep import DSfloat

from mammoscope.findings import Algorithm
from mammoscope.imaging import MammogramError, attributes
from mammoscope.imaging.voi_lut import LookupTable, voi_transformations
from mammoscope.results.base import (
    ResultReference,
    ResultSeries,
    finished,
    image_reference,
    image_result_details,
    printable,
)
from mammoscope.results.mammography_cad_sr import outline
from mammoscope.results.rendering import label_box
from mammoscope.results.study import ReadMammogram, ResultError, TrackedFinding, tracked_findings

_LAYER = "MAMMOSCOPE"
_YELLOW = (255, 214, 0)
# A label's line is this part of the longer side of the image: as large on every detector.
_LABEL_HEIGHT = 1 / 50
_CHARACTER_WIDTH = 0.6
_MODALITY_LUT = ("ModalityLUTSequence",)
# Only together: one without the other says nothing.
_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")
# Others than the standard's default.
_VOI_LUT_FUNCTIONS = ("LINEAR_EXACT", "SIGMOID")


def presentation_state_obstacle(read: ReadMammogram) -> str | None:
    """Why this image cannot have marks in a grayscale presentation state, or ``None`` if it can."""
    if not read.reading.findings:
        return "it has no findings"
    if read.header.get("SamplesPerPixel", 1) != 1:
        return "it is a colour image"
    return None


def presentation_state(
    image: ReadMammogram,
    algorithm: Algorithm,
    *,
    now: datetime | None = None,
    supersedes: Sequence[ResultReference] = (),
) -> FileDataset:
    """The marks on one mammogram: a closed rectangle and a label with the score for each finding.

    Coordinates are in PIXEL units: (0, 0) is the top left corner of the top left pixel (PS3.3 Table C.10-5), as in
    a `Box`. Tracking UIDs are those of the CAD report.

    Parameters
    ----------
    now
        Date and time of creation; the clock's unless given.
    supersedes
        The objects of the study's earlier reports, oldest first.

    Raises
    ------
    ResultError
        If the image cannot have one (see `presentation_state_obstacle`).
    """
    if obstacle := presentation_state_obstacle(image):
        raise ResultError(f"{image.mammogram.name} cannot have a presentation state: {obstacle}.")
    reference = _reference(image.header)
    tracked = tracked_findings(image, algorithm)
    layer = hd.pr.GraphicLayer(
        _LAYER,
        order=1,
        description=f"Findings of {printable(algorithm.name)} {printable(algorithm.version)}"[:64],
        display_color=hd.color.CIELabColor.from_rgb(*_YELLOW),
    )
    annotation = hd.pr.GraphicAnnotation(
        referenced_images=[reference],
        graphic_layer=layer,
        graphic_objects=[_rectangle(finding) for finding in tracked],
        text_objects=[_label(finding, image) for finding in tracked],
    )
    inverse = reference.PhotometricInterpretation == "MONOCHROME1"
    shape = hd.PresentationLUTShapeValues.INVERSE if inverse else hd.PresentationLUTShapeValues.IDENTITY
    series = ResultSeries.PRESENTATION_STATE
    made = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[reference],
        device_serial_number=None,  # type: ignore[arg-type]  # optional (PS3.3 C.7.5.1); a program has none
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        presentation_lut_transformation=hd.PresentationLUTTransformation(presentation_lut_shape=shape),
        **image_result_details(series, image, algorithm, "marks", supersedes),
    )
    state = finished(made, image, series, algorithm, now)
    # Not in this IOD: the time of creation is that of presentation.
    state.PresentationCreationDate, state.PresentationCreationTime = state.ContentDate, state.ContentTime
    del state.ContentDate, state.ContentTime
    # Type 2C for a paired organ (PS3.3 C.7.3.1); empty where nobody knows.
    state.Laterality = str(image.laterality) if image.laterality else None
    voi = _voi_of(image)
    if voi is not None:
        state.SoftcopyVOILUTSequence = [voi]
    return state


def _voi_of(image: ReadMammogram) -> Dataset | None:
    """The first VOI LUT of the image, or else its first window, as an item of the Softcopy VOI LUT Sequence.

    The one that reading starts from, and DCMTK too. ``None`` where the image has none that can be read.
    """
    header = image.header
    signed = header.get("PixelRepresentation") == 1 or (attributes.number(header, "RescaleIntercept") or 0) < 0
    try:
        transformation = next(voi_transformations(header, signed, image.mammogram.name), None)
    except MammogramError:
        return None
    item = Dataset()
    if isinstance(transformation, LookupTable):
        item.VOILUTSequence = [_table(transformation)]
    elif transformation is not None:
        item.WindowCenter = DSfloat(transformation.center, auto_format=True)
        item.WindowWidth = DSfloat(transformation.width, auto_format=True)
        if transformation.function in _VOI_LUT_FUNCTIONS:
            item.VOILUTFunction = transformation.function
    else:
        return None
    return item


def _table(table: LookupTable) -> Dataset:
    """The table anew, since its bytes and its representation depend on how the image was encoded.

    With entries of 16 bits: a mammogram's may have 10 to 16, a presentation state's have 8 or 16 (PS3.3 C.11.2.1.1).
    """
    item = Dataset()
    white = max((1 << table.bits) - 1, int(table.data.max()))
    entries = np.rint(table.data.astype(np.float64) * (65535 / white)).astype("<u2")
    descriptor = [entries.size % 65536, table.first, 16]
    if table.first < 0:
        # All three values are signed then, so a count above 32767 is written as the negative number of the same bits.
        descriptor[0] -= 65536 if descriptor[0] > 32767 else 0
    item.add_new("LUTDescriptor", "SS" if table.first < 0 else "US", descriptor)
    item.add_new("LUTData", "OW", entries.tobytes())
    return item


def _reference(header: Dataset) -> Dataset:
    """The mammogram without its window, which is copied by itself, and with a rescale only where it is whole."""
    whole = None not in (attributes.number(header, "RescaleSlope"), attributes.number(header, "RescaleIntercept"))
    return image_reference(header, _MODALITY_LUT + (_RESCALE if whole else ()))


def _rectangle(tracked: TrackedFinding) -> hd.pr.GraphicObject:
    return hd.pr.GraphicObject(
        graphic_type=hd.pr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array(outline(tracked.box)),
        units=hd.pr.AnnotationUnitsValues.PIXEL,
        is_filled=False,
        tracking_id=printable(tracked.tracking_identifier),
        tracking_uid=tracked.tracking_uid,
    )


def _label(tracked: TrackedFinding, image: ReadMammogram) -> hd.pr.TextObject:
    rows, columns = image.mammogram.rows, image.mammogram.columns
    text = printable(tracked.words)
    height = max(rows, columns) * _LABEL_HEIGHT
    place = label_box(tracked.box, height * _CHARACTER_WIDTH * len(text), height, rows, columns)
    return hd.pr.TextObject(
        text_value=text,
        units=hd.pr.AnnotationUnitsValues.PIXEL,
        bounding_box=place.as_tuple(),
        text_justification=hd.pr.TextJustificationValues.LEFT,
        tracking_id=printable(tracked.tracking_identifier),
        tracking_uid=tracked.tracking_uid,
    )
