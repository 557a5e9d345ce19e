"""Grayscale Softcopy Presentation State: the marks as any PACS viewer draws them over the mammogram.

It says nothing about the window (no Softcopy VOI LUT), so that the reader's own window survives.
"""

from collections.abc import Sequence
from datetime import datetime

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian

from mammoscope import __version__
from mammoscope.findings import Algorithm
from mammoscope.imaging import attributes
from mammoscope.results.base import (
    MANUFACTURER,
    RESEARCH_USE,
    ResultReference,
    ResultSeries,
    finished,
    image_reference,
    printable,
    replaced,
    result_instance_uid,
    result_series_uid,
)
from mammoscope.results.mammography_cad_sr import outline
from mammoscope.results.rendering import label_box
from mammoscope.results.study import ReadMammogram, ResultError, TrackedFinding, hanging_number, tracked_findings
from mammoscope.settings import ResultKind

_LAYER = "MAMMOSCOPE"
_YELLOW = (255, 214, 0)
# A label's line is this part of the longer side of the image: as large on every detector.
_LABEL_HEIGHT = 1 / 50
_CHARACTER_WIDTH = 0.6
# What the marks need of the image; the reader's window is not among it.
_MODALITY_LUT = ("ModalityLUTSequence",)
# Only together: one without the other says nothing.
_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")


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
    uid = result_instance_uid(series, [image], algorithm)
    replaces = replaced(ResultKind.PRESENTATION_STATE, uid, [image.sop_instance_uid], supersedes)
    made = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[reference],
        series_instance_uid=result_series_uid(series, image, algorithm),
        series_number=series.value.number,
        sop_instance_uid=uid,
        instance_number=hanging_number(image),
        manufacturer=MANUFACTURER,
        manufacturer_model_name="Mammoscope",
        software_versions=__version__,
        device_serial_number=None,  # type: ignore[arg-type]  # optional (PS3.3 C.7.5.1); a program has none
        content_label=_LAYER,
        content_description=f"{'Replaces earlier marks' if replaces else 'Marks'}, {RESEARCH_USE}",
        content_creator_name="Mammoscope^",
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        presentation_lut_transformation=hd.PresentationLUTTransformation(presentation_lut_shape=shape),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    state = finished(made, image, series, algorithm, now)
    # Not in this IOD: the time of creation is that of presentation.
    state.PresentationCreationDate, state.PresentationCreationTime = state.ContentDate, state.ContentTime
    del state.ContentDate, state.ContentTime
    # Type 2C for a paired organ (PS3.3 C.7.3.1); empty where nobody knows.
    state.Laterality = str(image.laterality) if image.laterality else None
    return state


def _reference(header: Dataset) -> Dataset:
    """The mammogram without a window, and with a rescale only where it is whole."""
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
    text = printable(f"{tracked.finding.label} {tracked.percent}")
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
