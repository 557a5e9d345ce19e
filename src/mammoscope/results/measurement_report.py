"""Comprehensive 3D SR by TID 1500: the report that a PACS of today, or a research tool, reads as measurements.

What the IHE Radiology profile AI Results (AIR) asks of it: algorithm by name and version (TID 4019) on every group,
tracking identifiers, each finding's region as spatial coordinates in its image with the score as a measurement, an
image library, makers in Contributing Equipment, the replaced document as predecessor. What was not found is said too,
of each image: a mass is absent on one that was read, and one that was not read has the reason. That stands among the
Qualitative Evaluations of the report. As measurement groups, which have no region then, it made the whole report
unreadable in viewers (docs/decisions/076-what-viewers-show.md).
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
from mammoscope.descriptors import IMPRESSION_DESCRIPTION, Description
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
    model_in_few_words,
    printable,
    replaced,
    result_instance_uid,
    result_series_uid,
    set_predecessor,
    writable,
)
from mammoscope.results.mammography_cad_sr import (
    FEATURE_CODES,
    orientation_of,
    outline,
    overall_result,
    uncoded_classes,
)
from mammoscope.results.rendering import status_line
from mammoscope.results.study import (
    ReadMammogram,
    ResultError,
    TrackedFinding,
    in_hanging_order,
    tracked_findings,
)
from mammoscope.settings import ResultKind

OWN_SCHEME = "99MAMMOSCOPE"
_THRESHOLD = "Threshold of "
NO_MEASUREMENTS = "No image of this study has a finding."
_MAX_MEANING = 64
_MAX_LABEL = 10  # a code value is of 16 characters at most
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
_SIDE = {Laterality.LEFT: codes.SCT.Left, Laterality.RIGHT: codes.SCT.Right}
_MODALITIES = {"CR": codes.cid29.ComputedRadiography, "DX": codes.cid29.DigitalRadiography}
"""Of images that are mammograms and do not say so by their modality."""
_CONTEXT = hd.sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
_CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS
_MODIFIES = hd.sr.RelationshipTypeValues.HAS_CONCEPT_MOD
_INFERRED_FROM = hd.sr.RelationshipTypeValues.INFERRED_FROM
LANGUAGE = hd.sr.CodedConcept("en-US", "RFC5646", "English (United States)")


def ai_sr_obstacle(read: ReadMammogram) -> str | None:
    """Why the AI report cannot hold this image, or ``None`` if it can."""
    if uncoded := uncoded_classes(read, FEATURE_CODES):
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
    reader = None if verified_by is None else person_name(verified_by)
    made = hd.sr.Comprehensive3DSR(
        evidence=[image_reference(read.header) for read in images],
        content=_content(images, algorithm, missing, reader),
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
    images: Sequence[ReadMammogram], algorithm: Algorithm, missing: Sequence[str], reader: str | None
) -> hd.sr.ContainerContentItem:
    """TID 1500, put together here because highdicom's refuses a report without measurement groups."""
    report = hd.sr.ContainerContentItem(codes.DCM.ImagingMeasurementReport, template_id="1500")
    report.ContentSequence = hd.sr.ContentSequence(
        [
            *hd.sr.LanguageOfContentItemAndDescendants(LANGUAGE),
            *(person_observer(reader) if reader else _observer(algorithm)),
            hd.sr.CodeContentItem(codes.DCM.ProcedureReported, codes.cid100.ImagingProcedure, _MODIFIES),
            image_library(images),
            _measurements(images, algorithm, of_reader=reader is not None),
            _evaluations(images, missing),
        ]
    )
    return report


def person_name(name: str) -> str:
    """A name in the form of PS3.5 section 6.2.1: as a family name alone, without what separates its parts there."""
    return (printable(name).translate(str.maketrans("^=", "  "))[:63].strip() or "unknown") + "^"


def person_observer(name: str) -> hd.sr.ObservationContext:
    """TID 1001: the reader."""
    person = hd.sr.PersonObserverIdentifyingAttributes(name=name)
    context = hd.sr.ObserverContext(observer_type=codes.DCM.Person, observer_identifying_attributes=person)
    return hd.sr.ObservationContext(observer_person_context=context)


def _observer(algorithm: Algorithm) -> hd.sr.ObservationContext:
    """TID 1001: a device, which is the program with this model."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(algorithm),
        name=printable(algorithm.name),
        manufacturer_name=MANUFACTURER,
        model_name=f"Mammoscope {__version__}",
    )
    context = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return hd.sr.ObservationContext(observer_device_context=context)


def _measurements(
    images: Sequence[ReadMammogram], algorithm: Algorithm, *, of_reader: bool
) -> hd.sr.ContainerContentItem:
    """TID 1500 row 6: a group for each finding."""
    return measurements_container(
        [
            item
            for read in images
            for tracked in tracked_findings(read, algorithm)
            for item in _region(read, tracked, algorithm, of_reader=of_reader)
        ]
    )


def measurements_container(groups: Sequence[hd.sr.ContentItem]) -> hd.sr.ContainerContentItem:
    """TID 1500 row 6 with its measurement groups.

    The container is there without any, for viewers look for it; a sentence stands in it then, which the template
    allows: highdicom's reader fails where the container is empty.
    """
    container = hd.sr.ContainerContentItem(codes.DCM.ImagingMeasurements, relationship_type=_CONTAINS)
    container.ContentSequence = hd.sr.ContentSequence(
        groups or [hd.sr.TextContentItem(codes.DCM.Comment, NO_MEASUREMENTS, _CONTAINS)]
    )
    return container


def _region(
    read: ReadMammogram, tracked: TrackedFinding, algorithm: Algorithm, *, of_reader: bool
) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """TID 1410: one finding.

    Viewers write the measurements beside the box, each by the name of its concept, and nothing else of what the group
    holds. So the score is there twice, first under a name that says what was found and that it is for research, then
    under the standard's, and the threshold under the name of the model. The first has the outline too, an extension of
    the template that the SOP class allows (PS3.3 A.35.13.3.1.2): without it Cornerstone cannot make an editable
    rectangle of the box, and the comment is what it calls that rectangle.
    """
    source = hd.sr.SourceImageForRegion(read.header.SOPClassUID, read.header.SOPInstanceUID)
    polyline, corners = hd.sr.GraphicTypeValues.POLYLINE, np.array(outline(tracked.box))
    score = round(tracked.finding.score * 100, 1)
    measured = [(_score_of(tracked), score), (concepts.CERTAINTY_OF_FINDING, score)]
    if read.reading.threshold is not None:
        measured.append((_threshold_of(algorithm), round(read.reading.threshold * 100, 1)))
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(tracked.tracking_uid, printable(tracked.tracking_identifier)),
        referenced_region=hd.sr.ImageRegion(polyline, corners, source),
        finding_type=FEATURE_CODES[tracked.finding.label.casefold()],
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_sites=finding_site(read),
        algorithm_id=None if of_reader else _algorithm(read, algorithm),
        measurements=[hd.sr.Measurement(name, value, codes.UCUM.Percent) for name, value in measured],
        qualitative_evaluations=qualitative_evaluations(tracked.description),
    )
    first = next(item for item in group[0].ContentSequence if item.value_type is hd.sr.ValueTypeValues.NUM)
    first.ContentSequence = hd.sr.ContentSequence(
        [hd.sr.CoordinatesForMeasurement(polyline, corners, source, codes.DCM.SourceOfMeasurement)]
    )
    words = printable(f"{tracked.words}, {RESEARCH_USE}")
    group[0].ContentSequence.append(hd.sr.TextContentItem(codes.DCM.Comment, words, _CONTAINS))
    group[0].ContentSequence.extend(impression_in_words(tracked.description, read))
    return group


def qualitative_evaluations(description: Description) -> list[hd.sr.QualitativeEvaluation] | None:
    """What a reader says of a finding in coded words, as rows of TID 1410: assessment category, shape, margins."""
    return [hd.sr.QualitativeEvaluation(name, value) for name, value in description.codes()] or None


def impression_in_words(description: Description, read: ReadMammogram) -> list[hd.sr.TextContentItem]:
    """A reader's comment, in the characters that the object has."""
    if not description.comment:
        return []
    words = writable(description.comment, read.header)
    return [hd.sr.TextContentItem(IMPRESSION_DESCRIPTION, words, _CONTAINS)]


def _score_of(tracked: TrackedFinding) -> Code:
    """The score of a class by our own coding scheme, for example ``Mass, research use only``."""
    label = printable(tracked.finding.label)[:_MAX_LABEL]
    return Code(f"score-{label.casefold()}", OWN_SCHEME, f"{label}, research use only")


def _threshold_of(algorithm: Algorithm) -> Code:
    """The score from which on the model reports a finding, for example ``Threshold of mammoscope-mass 0.1.0``."""
    return Code("threshold", OWN_SCHEME, _THRESHOLD + model_in_few_words(algorithm, _MAX_MEANING - len(_THRESHOLD)))


def _algorithm(read: ReadMammogram, algorithm: Algorithm) -> hd.sr.AlgorithmIdentification:
    """TID 4019."""
    threshold = read.reading.threshold
    return hd.sr.AlgorithmIdentification(
        name=printable(algorithm.name),
        version=printable(algorithm.version),
        parameters=None if threshold is None else [f"threshold={threshold:.6g}"],
    )


def finding_site(read: ReadMammogram) -> list[hd.sr.FindingSite]:
    """Of a finding: the breast, with its side where that is known."""
    side = _SIDE[read.laterality] if read.laterality else None
    return [hd.sr.FindingSite(anatomic_location=codes.SCT.Breast, laterality=side)]


def image_library(images: Sequence[ReadMammogram]) -> hd.sr.ContainerContentItem:
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


def _of_whole_image(read: ReadMammogram) -> hd.sr.CodeContentItem:
    """That a mass is absent on an image, or that it was not read, with the image that it is said of."""
    name, value = concepts.MASS_ON_SEVERAL_IMAGES, codes.SCT.Absent
    if not read.processed:
        name, value = concepts.SUMMARY_OF_DETECTIONS, concepts.FAILED
    said = hd.sr.CodeContentItem(name, value, _CONTAINS)
    source = hd.sr.ImageContentItem(
        concepts.SOURCE_IMAGE, read.header.SOPClassUID, read.header.SOPInstanceUID, relationship_type=_INFERRED_FROM
    )
    said.ContentSequence = hd.sr.ContentSequence([source])
    return said


def _evaluations(images: Sequence[ReadMammogram], missing: Sequence[str]) -> hd.sr.ContainerContentItem:
    """TID 1500 row 12: how it went as a whole, what was not read and why, and what the report is not for."""
    overall = overall_result(images, found=any(read.reading.findings for read in images), complete=not missing)
    rows: list[hd.sr.ContentItem] = [
        hd.sr.CodeContentItem(concepts.CAD_PROCESSING_AND_FINDINGS_SUMMARY, overall, _CONTAINS)
    ]
    rows += [_of_whole_image(read) for read in images if not read.reading.findings]
    said = [
        f"{' '.join((read.laterality or '?', read.view or '?'))} {read.sop_instance_uid}: {status_line(read.reading)}"
        for read in images
        if not read.reading.findings
    ]
    rows += [
        hd.sr.TextContentItem(codes.DCM.Comment, printable(words), _CONTAINS)
        for words in (*said, *missing, f"Mammoscope: {RESEARCH_USE}")
    ]
    container = hd.sr.ContainerContentItem(QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    container.ContentSequence = hd.sr.ContentSequence(rows)
    return container
