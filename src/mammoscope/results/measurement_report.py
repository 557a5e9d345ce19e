"""Comprehensive 3D SR by TID 1500: the report that a PACS of today, or a research tool, reads as measurements.

What the IHE Radiology profile AI Results (AIR) asks of it: algorithm by name and version (TID 4019) on every group,
tracking identifiers, each finding's region as spatial coordinates in its image with the score as a measurement, an
image library, makers in Contributing Equipment, the replaced document as predecessor. What was not found is said too:
a mass is absent on an image that was read, and an image that was not read has the reason.
"""

from collections.abc import Sequence
from datetime import datetime

import highdicom as hd
import numpy as np
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from mammoscope import __version__
from mammoscope.findings import Algorithm
from mammoscope.imaging import Laterality, attributes
from mammoscope.results import concepts
from mammoscope.results.base import (
    MANUFACTURER,
    RESEARCH_USE,
    ResultReference,
    ResultSeries,
    device_uid,
    finished,
    image_reference,
    printable,
    replaced,
    result_instance_uid,
    result_series_uid,
    set_predecessor,
)
from mammoscope.results.mammography_cad_sr import (
    FEATURE_CODES,
    orientation_of,
    outline,
    overall_result,
    uncoded_classes,
)
from mammoscope.results.study import (
    ReadMammogram,
    ResultError,
    TrackedFinding,
    in_hanging_order,
    result_uid,
    tracked_findings,
)
from mammoscope.settings import ResultKind

_QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
_SIDE = {Laterality.LEFT: codes.SCT.Left, Laterality.RIGHT: codes.SCT.Right}
_MODALITIES = {"CR": codes.cid29.ComputedRadiography, "DX": codes.cid29.DigitalRadiography}
"""Of images that are mammograms and do not say so by their modality."""
_CONTEXT = hd.sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
_READER = Algorithm("reader", "1")
"""In whose stead the findings of a reader are tracked."""
_CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS


def ai_sr_obstacle(read: ReadMammogram) -> str | None:
    """Why the AI report cannot hold this image, or ``None`` if it can."""
    if uncoded := uncoded_classes(read):
        return f"the report has no code for findings of the class {', '.join(uncoded)}"
    return None


def ai_sr(
    images: Sequence[ReadMammogram],
    algorithm: Algorithm,
    *,
    now: datetime | None = None,
    supersedes: Sequence[ResultReference] = (),
    missing: Sequence[str] = (),
    verified_by: str | None = None,
    organisation: str = "unknown",
) -> FileDataset:
    """The AI report of one study; or, once a reader has confirmed the findings, the reader's.

    Parameters
    ----------
    images
        Every mammogram of the study that was read or should have been, in any order.
    now
        Content date and time; the clock's unless given.
    supersedes
        The objects of the study's earlier reports, oldest first.
    missing
        One sentence each for what the study should have held read and does not; the report then never says that all
        succeeded.
    verified_by, organisation
        The reader whose findings these are, and of which organisation: then the report is verified (PS3.3 C.17.2) and
        final, its observer is a person (TID 1003), and no finding is an algorithm's. ``None`` for an algorithm's own.

    Raises
    ------
    ResultError
        If an image cannot be in it (see `ai_sr_obstacle`), or if the images are not of one study.
    """
    images = in_hanging_order(images)
    for read in images:
        if obstacle := ai_sr_obstacle(read):
            raise ResultError(f"{read.mammogram.name} cannot be in an AI report: {obstacle}.")
    series = ResultSeries.AI_SR
    uid = result_instance_uid(series, images, algorithm, missing)
    reader = None if verified_by is None else _person_name(verified_by)
    observer = _person(reader) if reader else _device(algorithm)
    made = hd.sr.Comprehensive3DSR(
        evidence=[image_reference(read.header) for read in images],
        content=_content(images, None if reader else algorithm, missing, observer)[0],
        series_instance_uid=result_series_uid(series, images[0], algorithm),
        series_number=series.value.number,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=reader is not None,
        is_verified=reader is not None,
        verifying_observer_name=reader,
        verifying_organization=printable(organisation)[:64] if reader else None,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    report = finished(made, images[0], series, algorithm, now)
    uids = [read.sop_instance_uid for read in images]
    set_predecessor(report, replaced(ResultKind.AI_SR, uid, uids, supersedes))
    return report


def _content(
    images: Sequence[ReadMammogram],
    algorithm: Algorithm | None,
    missing: Sequence[str],
    observer: hd.sr.ObservationContext,
) -> hd.sr.MeasurementReport:
    """TID 1500; without an algorithm where the findings are a reader's."""
    report = hd.sr.MeasurementReport(
        observation_context=observer,
        procedure_reported=codes.cid100.ImagingProcedure,
        imaging_measurements=[group for read in images for group in _groups(read, algorithm)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    items = report[0].ContentSequence
    items.insert(len(items) - 1, _image_library(images))
    items.append(_evaluations(images, missing))
    return report


def _person_name(name: str) -> str:
    """A name in the form of PS3.5 section 6.2.1: as a family name alone, without what separates its parts there."""
    return (printable(name).translate(str.maketrans("^=", "  "))[:63].strip() or "unknown") + "^"


def _person(name: str) -> hd.sr.ObservationContext:
    """TID 1001: the reader."""
    person = hd.sr.PersonObserverIdentifyingAttributes(name=name)
    context = hd.sr.ObserverContext(observer_type=codes.DCM.Person, observer_identifying_attributes=person)
    return hd.sr.ObservationContext(observer_person_context=context)


def _device(algorithm: Algorithm) -> hd.sr.ObservationContext:
    """TID 1001: a device, which is the program with this model."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(algorithm),
        name=printable(algorithm.name),
        manufacturer_name=MANUFACTURER,
        model_name=f"Mammoscope {__version__}",
    )
    context = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return hd.sr.ObservationContext(observer_device_context=context)


def _groups(
    read: ReadMammogram, algorithm: Algorithm | None
) -> list[hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations | hd.sr.MeasurementsAndQualitativeEvaluations]:
    """A group for each finding of an image, or one that says that there is none or that the image was not read."""
    if read.reading.findings:
        return [_region(read, tracked, algorithm) for tracked in tracked_findings(read, algorithm or _READER)]
    if read.processed:
        return [_whole_image(read, algorithm, concepts.MASS_ON_SEVERAL_IMAGES, codes.SCT.Absent)]
    return [_whole_image(read, algorithm, concepts.SUMMARY_OF_DETECTIONS, concepts.FAILED)]


def _region(
    read: ReadMammogram, tracked: TrackedFinding, algorithm: Algorithm | None
) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """TID 1410: one finding."""
    source = hd.sr.SourceImageForRegion(read.header.SOPClassUID, read.header.SOPInstanceUID)
    region = hd.sr.ImageRegion(hd.sr.GraphicTypeValues.POLYLINE, np.array(outline(tracked.box)), source)
    certainty = hd.sr.Measurement(
        name=concepts.CERTAINTY_OF_FINDING,
        value=round(tracked.finding.score * 100, 1),
        unit=codes.UCUM.Percent,
    )
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(tracked.tracking_uid, printable(tracked.tracking_identifier)),
        referenced_region=region,
        finding_type=FEATURE_CODES[tracked.finding.label.casefold()],
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_sites=_site(read),
        algorithm_id=None if algorithm is None else _algorithm(read, algorithm),
        measurements=[certainty],
    )


def _whole_image(
    read: ReadMammogram, algorithm: Algorithm | None, name: Code, value: Code
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """TID 1501: what holds for an image as a whole."""
    source = hd.sr.SourceImageForMeasurementGroup(read.header.SOPClassUID, read.header.SOPInstanceUID)
    uid = result_uid("image", read.sop_instance_uid, algorithm or _READER)
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid, f"image {uid[-12:]}"),
        finding_sites=_site(read),
        algorithm_id=None if algorithm is None else _algorithm(read, algorithm),
        qualitative_evaluations=[hd.sr.QualitativeEvaluation(name, value)],
        source_images=[source],
    )


def _algorithm(read: ReadMammogram, algorithm: Algorithm) -> hd.sr.AlgorithmIdentification:
    """TID 4019."""
    threshold = read.reading.threshold
    return hd.sr.AlgorithmIdentification(
        name=printable(algorithm.name),
        version=printable(algorithm.version),
        parameters=None if threshold is None else [f"threshold={threshold:.6g}"],
    )


def _site(read: ReadMammogram) -> list[hd.sr.FindingSite]:
    side = _SIDE[read.laterality] if read.laterality else None
    return [hd.sr.FindingSite(anatomic_location=codes.SCT.Breast, laterality=side)]


def _image_library(images: Sequence[ReadMammogram]) -> hd.sr.ContainerContentItem:
    """TID 1600, each image with what it says of itself (TID 1602, 1603).

    Not highdicom's, which knows no digitised film and demands an orientation and a spacing of each mammogram.
    """
    group = hd.sr.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=_CONTAINS)
    group.ContentSequence = hd.sr.ContentSequence([_library_entry(read) for read in images])
    library = hd.sr.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=_CONTAINS)
    library.ContentSequence = hd.sr.ContentSequence([group])
    return library


def _library_entry(read: ReadMammogram) -> hd.sr.ImageContentItem:
    pixels = Code("{pixels}", "UCUM", "pixels")
    modality = _MODALITIES.get(attributes.text(read.header, "Modality") or "", codes.cid29.Mammography)
    rows: list[hd.sr.ContentItem] = [
        hd.sr.CodeContentItem(codes.DCM.Modality, modality, _CONTEXT),
        hd.sr.NumContentItem(codes.DCM.PixelDataRows, read.mammogram.rows, pixels, relationship_type=_CONTEXT),
        hd.sr.NumContentItem(codes.DCM.PixelDataColumns, read.mammogram.columns, pixels, relationship_type=_CONTEXT),
    ]
    if orientation := orientation_of(read):
        rows += [
            hd.sr.TextContentItem(codes.DCM.PatientOrientationRow, orientation[0], _CONTEXT),
            hd.sr.TextContentItem(codes.DCM.PatientOrientationColumn, orientation[1], _CONTEXT),
        ]
    if spacing := attributes.pair(read.header, "ImagerPixelSpacing"):
        unit = codes.UCUM.Millimeter
        rows += [
            hd.sr.NumContentItem(codes.DCM.HorizontalPixelSpacing, spacing.column_mm, unit, relationship_type=_CONTEXT),
            hd.sr.NumContentItem(codes.DCM.VerticalPixelSpacing, spacing.row_mm, unit, relationship_type=_CONTEXT),
        ]
    entry = hd.sr.ImageContentItem(
        codes.SCT.Source, read.header.SOPClassUID, read.header.SOPInstanceUID, relationship_type=_CONTAINS
    )
    entry.ContentSequence = hd.sr.ContentSequence(rows)
    return entry


def _evaluations(images: Sequence[ReadMammogram], missing: Sequence[str]) -> hd.sr.ContainerContentItem:
    """TID 1500 row 12: how it went as a whole, what was not read and why, and what the report is not for."""
    overall = overall_result(images, found=any(read.reading.findings for read in images), complete=not missing)
    rows: list[hd.sr.ContentItem] = [
        hd.sr.CodeContentItem(concepts.CAD_PROCESSING_AND_FINDINGS_SUMMARY, overall, _CONTAINS)
    ]
    said = [
        f"{' '.join((read.laterality or '?', read.view or '?'))} {read.sop_instance_uid}: not processed: "
        f"{read.reading.reason}"
        for read in images
        if not read.processed
    ]
    rows += [
        hd.sr.TextContentItem(codes.DCM.Comment, printable(words), _CONTAINS)
        for words in (*said, *missing, f"Mammoscope: {RESEARCH_USE}")
    ]
    container = hd.sr.ContainerContentItem(_QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    container.ContentSequence = hd.sr.ContentSequence(rows)
    return container
