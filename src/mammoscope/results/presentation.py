"""Grayscale Softcopy Presentation State: the marks as any PACS viewer draws them over the mammogram.

It says nothing about the window (no Softcopy VOI LUT), so that the reader's own window survives.
"""

from datetime import datetime

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian

from mammoscope import __version__
from mammoscope.findings import Algorithm
from mammoscope.imaging import attributes
from mammoscope.results.cad_sr import outline
from mammoscope.results.derived import (
    MANUFACTURER,
    RESEARCH_USE,
    ResultKind,
    copy_patient_and_study,
    printable,
    result_instance_uid,
    result_series_uid,
    series_description,
    set_creation_time,
    software_versions,
)
from mammoscope.results.errors import ResultError
from mammoscope.results.labels import label_box
from mammoscope.results.study import ReadMammogram, TrackedFinding, tracked_findings

_LAYER = "MAMMOSCOPE"
_YELLOW = (255, 214, 0)
# A label's line is this part of the longer side of the image: as large on every detector.
_LABEL_HEIGHT = 1 / 50
_CHARACTER_WIDTH = 0.6
# What the marks need of the image; the reader's window is not among it.
_IMAGE_ATTRIBUTES = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "ModalityLUTSequence",
)
# Only together: one without the other says nothing.
_RESCALE_ATTRIBUTES = ("RescaleSlope", "RescaleIntercept", "RescaleType")
_PATIENT_AND_STUDY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)


def presentation_state_obstacle(read: ReadMammogram) -> str | None:
    """Why this image cannot have marks in a grayscale presentation state, or ``None`` if it can."""
    if not read.reading.findings:
        return "it has no findings"
    if read.header.get("SamplesPerPixel", 1) != 1:
        return "it is a colour image"
    return None


def presentation_state(
    image: ReadMammogram, algorithm: Algorithm, *, number: int = 1, now: datetime | None = None
) -> FileDataset:
    """The marks on one mammogram: a closed rectangle and a label with the score for each finding.

    Coordinates are in PIXEL units: (0, 0) is the top left corner of the top left pixel (PS3.3 Table C.10-5), as in
    a
    `Box`. Tracking UIDs are those of the CAD report.

    Parameters
    ----------
    number
        Instance number within the series of the study's presentation states.
    now
        Date and time of creation; the clock's unless given.

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
    kind = ResultKind.PRESENTATION_STATE
    made = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[reference],
        series_instance_uid=result_series_uid(kind, image, algorithm),
        series_number=kind.value.number,
        series_description=series_description(kind, algorithm),
        sop_instance_uid=result_instance_uid(kind, [image], algorithm),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="Mammoscope",
        software_versions=__version__,
        device_serial_number=None,  # type: ignore[arg-type]  # optional (PS3.3 C.7.5.1); a program has none
        content_label=_LAYER,
        content_description=f"Marks, {RESEARCH_USE}",
        content_creator_name="Mammoscope^",
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        presentation_lut_transformation=hd.PresentationLUTTransformation(presentation_lut_shape=shape),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    state = FileDataset("", made, preamble=made.preamble, file_meta=made.file_meta)
    copy_patient_and_study(image.header, state)
    state.SoftwareVersions = software_versions(algorithm)
    set_creation_time(state, now)
    # Not in this IOD: the time of creation is that of presentation.
    state.PresentationCreationDate, state.PresentationCreationTime = state.ContentDate, state.ContentTime
    # highdicom names itself as contributing, at the time of the clock.
    for equipment in state.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = state.ContentDate + state.ContentTime
    del state.ContentDate, state.ContentTime
    # Type 2C for a paired organ (PS3.3 C.7.3.1); empty where nobody knows.
    state.Laterality = str(image.laterality) if image.laterality else None
    return state


def _reference(header: Dataset) -> Dataset:
    """The mammogram as highdicom gets to see it.

    Its patient and study stay empty, because highdicom refuses or logs values that it finds odd; the real ones are
    copied afterwards as they are.
    """
    reference = Dataset()
    keywords = list(_IMAGE_ATTRIBUTES)
    if None not in (attributes.number(header, "RescaleSlope"), attributes.number(header, "RescaleIntercept")):
        keywords += _RESCALE_ATTRIBUTES
    for keyword in keywords:
        if keyword in header:
            reference[keyword] = header[keyword]
    reference.SamplesPerPixel = 1
    reference.PhotometricInterpretation = header.get("PhotometricInterpretation", "MONOCHROME2")
    for keyword in _PATIENT_AND_STUDY:
        setattr(reference, keyword, "")
    return reference


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
