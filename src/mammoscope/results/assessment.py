"""Comprehensive 3D SR by TID 1500: what a reader says of each finding of a model, as the model's report has them.

In the shape of the IHE Radiology profile AI Result Assessment: a document of its own that names the assessed report
and changes nothing of it, verified, with the reader as its observer. A group of it is a finding, under the tracking
identifiers of the report where the model made it, with the region as the reader leaves it and the assessment as a
qualitative evaluation. The report as a whole is assessed too. The codes of the assessments are our own: DICOM has none
yet.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from mammoscope.descriptors import Description
from mammoscope.findings import Algorithm, Box
from mammoscope.results import concepts
from mammoscope.results.base import (
    MANUFACTURER,
    RESEARCH_USE,
    ResultSeries,
    finished,
    image_reference,
    printable,
    result_series_uid,
    writable,
)
from mammoscope.results.mammography_cad_sr import FEATURE_CODES, outline, uncoded_classes
from mammoscope.results.measurement_report import (
    LANGUAGE,
    OWN_SCHEME,
    QUALITATIVE_EVALUATIONS,
    finding_site,
    image_library,
    measurements_container,
    person_name,
    person_observer,
    qualitative_evaluations,
)
from mammoscope.results.study import (
    ReadMammogram,
    ResultError,
    in_hanging_order,
    result_uid,
    tracked_findings,
)

_CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS
_INFERRED_FROM = hd.sr.RelationshipTypeValues.INFERRED_FROM
ASSESSMENT = Code("ai-assessment", OWN_SCHEME, "Assessment of the AI result")
ASSESSED = Code("ai-result", OWN_SCHEME, "Assessed AI result")


class Assessment(Enum):
    """What a reader says of a finding, or of a report as a whole."""

    ACCEPTED = Code("accepted", OWN_SCHEME, "Accepted")
    MODIFIED = Code("modified", OWN_SCHEME, "Accepted with modifications")
    REJECTED = Code("rejected", OWN_SCHEME, "Rejected")
    SUPPLEMENTED = Code("supplemented", OWN_SCHEME, "Supplemented by the reader")


@dataclass(frozen=True, slots=True)
class AssessedFinding:
    """One finding, the model's or the reader's own.

    Parameters
    ----------
    number
        Of the model's finding in its reading, from 1; ``None`` for one that the reader adds.
    box
        As the reader leaves it, in stored pixels.
    """

    assessment: Assessment
    box: Box
    label: str
    number: int | None = None
    description: Description | None = None


@dataclass(frozen=True, slots=True)
class AssessedImage:
    """A mammogram with the model's reading, and what a reader says of its findings; what was not judged is left out."""

    read: ReadMammogram
    findings: tuple[AssessedFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class AssessedReport:
    """The model's report that is assessed, by its UIDs."""

    sop_class: str
    sop_instance: str
    series: str


def overall_assessment(images: Sequence[AssessedImage]) -> Assessment:
    """What all the assessments amount to: of a report without findings to which nothing was added, accepted."""
    said = [finding.assessment for image in images for finding in image.findings]
    of_model = [one for one in said if one is not Assessment.SUPPLEMENTED]
    if len(of_model) == len(said):
        if of_model and all(one is Assessment.REJECTED for one in of_model):
            return Assessment.REJECTED
        if all(one is Assessment.ACCEPTED for one in of_model):
            return Assessment.ACCEPTED
    elif all(one is Assessment.ACCEPTED for one in of_model):
        return Assessment.SUPPLEMENTED
    return Assessment.MODIFIED


def assessment_sr(
    images: Sequence[AssessedImage],
    algorithm: Algorithm,
    report: AssessedReport,
    *,
    verified_by: str,
    organisation: str = "unknown",
    now: datetime | None = None,
) -> FileDataset:
    """The assessment of one study's report.

    Parameters
    ----------
    images
        Every mammogram of the report, in any order.
    algorithm
        The model whose report it is.
    verified_by, organisation
        The reader, and of which organisation.
    now
        Content date and time; the clock's unless given.

    Raises
    ------
    ResultError
        If a finding has a class without a code or a number that its reading has not, or the images are of several
        studies.
    """
    order = {read.sop_instance_uid: place for place, read in enumerate(in_hanging_order([one.read for one in images]))}
    images = sorted(images, key=lambda one: order[one.read.sop_instance_uid])
    first, reader = images[0].read, person_name(verified_by)
    series, at = ResultSeries.ASSESSMENT, now or datetime.now()
    said = [
        f"{one.assessment.name} {one.number} {one.box.as_tuple()} {one.description!r}"
        for image in images
        for one in image.findings
    ]
    uid = result_uid(
        f"{series.value.key} instance", report.sop_instance, algorithm, verified_by, f"{at:%Y%m%d%H%M%S}", *said
    )
    made = hd.sr.Comprehensive3DSR(
        evidence=[*(image_reference(image.read.header) for image in images), _report_reference(report, first)],
        content=_content(images, algorithm, report, reader),
        series_instance_uid=result_series_uid(series, first, algorithm),
        series_number=series.value.number,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=True,
        is_verified=True,
        verifying_observer_name=reader,
        verifying_organization=printable(organisation)[:64],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    return finished(made, first, series, algorithm, at)


def _report_reference(report: AssessedReport, read: ReadMammogram) -> Dataset:
    """The model's report as highdicom gets to see it, of the same study."""
    reference = copy.deepcopy(image_reference(read.header))  # its elements are those of the header
    reference.SOPClassUID, reference.SOPInstanceUID = UID(report.sop_class), UID(report.sop_instance)
    reference.SeriesInstanceUID = UID(report.series)
    return reference


def _content(
    images: Sequence[AssessedImage], algorithm: Algorithm, report: AssessedReport, reader: str
) -> hd.sr.ContainerContentItem:
    """TID 1500, put together here as in `mammoscope.results.measurement_report`."""
    modifies = hd.sr.RelationshipTypeValues.HAS_CONCEPT_MOD
    root = hd.sr.ContainerContentItem(codes.DCM.ImagingMeasurementReport, template_id="1500")
    root.ContentSequence = hd.sr.ContentSequence(
        [
            *hd.sr.LanguageOfContentItemAndDescendants(LANGUAGE),
            *person_observer(reader),
            hd.sr.CodeContentItem(codes.DCM.ProcedureReported, codes.cid100.ImagingProcedure, modifies),
            image_library([image.read for image in images]),
            _measurements(images, algorithm),
            _as_a_whole(images, report),
        ]
    )
    return root


def _measurements(images: Sequence[AssessedImage], algorithm: Algorithm) -> hd.sr.ContainerContentItem:
    return measurements_container(
        [item for image in images for finding in image.findings for item in _group(image.read, finding, algorithm)]
    )


def _group(
    read: ReadMammogram, finding: AssessedFinding, algorithm: Algorithm
) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """TID 1410: one finding with its assessment; of the model's the certainty too, which tells which it was."""
    if finding.label.casefold() not in FEATURE_CODES:
        raise ResultError(f"{read.mammogram.name}: there is no code for findings of the class {finding.label}.")
    box = finding.box.clipped(read.mammogram.rows, read.mammogram.columns)
    if box is None:
        raise ResultError(f"A finding of {read.mammogram.name} lies outside the image.")
    measurements, tracked = [], None
    if finding.number is not None:
        if uncoded := uncoded_classes(read, FEATURE_CODES):
            raise ResultError(
                f"{read.mammogram.name}: there is no code for findings of the class {', '.join(uncoded)}."
            )
        of_model = {one.number: one for one in tracked_findings(read, algorithm)}
        if finding.number not in of_model:
            raise ResultError(f"The reading of {read.mammogram.name} has no finding {finding.number}.")
        tracked = of_model[finding.number]
        score = round(tracked.finding.score * 100, 1)
        measurements = [hd.sr.Measurement(concepts.CERTAINTY_OF_FINDING, score, codes.UCUM.Percent)]
    source = hd.sr.SourceImageForRegion(read.header.SOPClassUID, read.header.SOPInstanceUID)
    uid = (
        tracked.tracking_uid if tracked else result_uid("added", read.sop_instance_uid, algorithm, str(box.as_tuple()))
    )
    name = tracked.tracking_identifier if tracked else f"{finding.label} of the reader {uid[-12:]}"
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid, printable(name)),
        referenced_region=hd.sr.ImageRegion(hd.sr.GraphicTypeValues.POLYLINE, np.array(outline(box)), source),
        finding_type=FEATURE_CODES[finding.label.casefold()],
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_sites=finding_site(read),
        measurements=measurements or None,
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(ASSESSMENT, finding.assessment.value),
            *(qualitative_evaluations(finding.description or Description()) or ()),
        ],
    )
    comment = finding.description.comment if finding.description else ""
    words = f"{finding.assessment.value.meaning}, {RESEARCH_USE}" + (f": {comment}" if comment else "")
    group[0].ContentSequence.append(hd.sr.TextContentItem(codes.DCM.Comment, writable(words, read.header), _CONTAINS))
    return group


def _as_a_whole(images: Sequence[AssessedImage], report: AssessedReport) -> hd.sr.ContainerContentItem:
    """TID 1500 row 12: what the assessments amount to, and of which report."""
    overall = hd.sr.CodeContentItem(ASSESSMENT, overall_assessment(images).value, _CONTAINS)
    overall.ContentSequence = hd.sr.ContentSequence(
        [hd.sr.CompositeContentItem(ASSESSED, report.sop_class, report.sop_instance, _INFERRED_FROM)]
    )
    said = hd.sr.TextContentItem(codes.DCM.Comment, f"Mammoscope: {RESEARCH_USE}", _CONTAINS)
    container = hd.sr.ContainerContentItem(QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    container.ContentSequence = hd.sr.ContentSequence([overall, said])
    return container
