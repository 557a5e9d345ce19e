"""Mammography CAD SR: the report that a mammography workstation turns into CAD marks.

TID 4000 of DICOM PS3.16 and its parts; explained with examples in PS3.17 annex E. The order of items is significant.
Each finding is a Single Image Finding in an Individual Impression of its own. Findings of two views that belong
together would be Composite Features (TID 4004) in the place of those findings; nothing here pairs views yet.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from mammoscope.findings import Algorithm, Box
from mammoscope.imaging import View, attributes
from mammoscope.results import concepts
from mammoscope.results.derived import ResultKind, new_result, printable
from mammoscope.results.errors import ResultError
from mammoscope.results.sr_items import (
    GraphicType,
    Item,
    Reference,
    Relationship,
    code,
    container,
    date,
    encode,
    image,
    num,
    scoord,
    sop_reference,
    text,
    time,
    uid_reference,
)
from mammoscope.results.study import ReadMammogram, TrackedFinding, in_hanging_order, tracked_findings

_DIGITAL_MAMMOGRAPHY = (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
)
_BREAST = {
    "L": concepts.LEFT_BREAST,
    "R": concepts.RIGHT_BREAST,
    "B": concepts.BOTH_BREASTS,
}
# CID 4014. It has no code for the views AT and CV, which are MLO and CC with a modifier, nor here for a plain XCC.
_VIEW = {
    View.CC: codes.cid4014.CranioCaudal,
    View.MLO: codes.cid4014.MedioLateralObliqueProjection,
    View.ML: codes.cid4014.MedioLateralProjection,
    View.LM: codes.cid4014.LateroMedial,
    View.LMO: codes.cid4014.LateroMedialOblique,
    View.SIO: codes.cid4014.SuperolateralToInferomedialOblique,
    View.FB: codes.cid4014.CaudoCranial,
    View.XCCL: codes.cid4014.CranioCaudalExaggeratedLaterally,
    View.XCCM: codes.cid4014.CranioCaudalExaggeratedMedially,
    View.ISO: codes.cid4014.InferomedialToSuperolateralOblique,
}
_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_MAX_CODE_VALUE = 16
_FINDING_CODES = {"mass": concepts.MASS_ON_ONE_IMAGE}
_SNOMED_RT = ("SRT", "SNM3", "99SDM")


def cad_sr_obstacle(read: ReadMammogram) -> str | None:
    """Why a mammography CAD report cannot refer to this image, or ``None`` if it can.

    Referred to are Digital Mammography X-Ray images, For Presentation and For Processing. A Secondary Capture (film put
    through a digitiser) is too, if it says which breast and which view it shows, because a workstation could not tell
    where the marks belong otherwise. Other kinds of object hold no mammogram as the report means it. Findings of a
    class for which the report has no code here keep their image out too, rather than be called a mass.
    """
    header = read.header
    uncoded = {finding.label for finding in read.reading.findings if finding.label.casefold() not in _FINDING_CODES}
    if uncoded:
        return f"the report has no code for findings of the class {', '.join(sorted(uncoded))}"
    if header.SOPClassUID in _DIGITAL_MAMMOGRAPHY:
        return None
    if header.SOPClassUID != SecondaryCaptureImageStorage:
        return f"a {header.SOPClassUID.name} object is no mammogram for a CAD report"
    known = {"laterality": _breast(read), "view": _view(read)}
    missing = [what for what, concept in known.items() if concept is None]
    return f"digitised film without {' and '.join(missing)}" if missing else None


def mammography_cad_sr(
    images: Sequence[ReadMammogram], algorithm: Algorithm, *, now: datetime | None = None
) -> FileDataset:
    """The CAD report of one study.

    Parameters
    ----------
    images
        Every mammogram of the study that was read or should have been, in any order. What the image library says of an
        image comes from its own attributes alone and is left out where the image does not say it, or says it in a way
        that cannot be understood. Side and view may be said by any attribute that `mammoscope.imaging` reads.
    now
        Content date and time; the clock's unless given.

    Raises
    ------
    ResultError
        If an image cannot be referred to (see `cad_sr_obstacle`), or if the images are not of one study.
    """
    images = in_hanging_order(images)
    for read in images:
        if obstacle := cad_sr_obstacle(read):
            raise ResultError(f"{read.mammogram.name} cannot be in a mammography CAD report: {obstacle}.")
    dataset = new_result(ResultKind.CAD_SR, images, algorithm, now)
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(images)]
    dataset.update(encode(_document(images, algorithm)))
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "4000"
    dataset.ContentTemplateSequence = [template]
    return dataset


def outline(box: Box) -> list[tuple[float, float]]:
    """The corners of a box, clockwise from the top left and back to it: a closed polyline."""
    x0, y0, x1, y1 = box.as_tuple()
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]


def _document(images: Sequence[ReadMammogram], algorithm: Algorithm) -> Item:
    """TID 4000."""
    library = [_library_entry(read) for read in images]
    impressions = [
        _impression(tracked, entry, algorithm)
        for read, entry in zip(images, library, strict=True)
        for tracked in tracked_findings(read, algorithm)
    ]
    return container(
        None,
        concepts.MAMMOGRAPHY_CAD_REPORT,
        code(
            Relationship.HAS_CONCEPT_MOD,
            concepts.LANGUAGE,
            concepts.ENGLISH,
            code(Relationship.HAS_CONCEPT_MOD, concepts.COUNTRY_OF_LANGUAGE, concepts.UNITED_STATES),
        ),
        container(Relationship.CONTAINS, concepts.IMAGE_LIBRARY, *library),
        code(
            Relationship.CONTAINS,
            concepts.CAD_PROCESSING_AND_FINDINGS_SUMMARY,
            _overall(images, found=bool(impressions)),
            *impressions,
        ),
        _summary_of_detections(images, library, algorithm),
        code(Relationship.CONTAINS, concepts.SUMMARY_OF_ANALYSES, concepts.NOT_ATTEMPTED),
    )


def _library_entry(read: ReadMammogram) -> Item:
    """TID 4020: each row is there exactly if the image says it."""
    header = read.header
    context = Relationship.HAS_ACQ_CONTEXT
    rows: list[Item] = []
    if breast := _breast(read):
        rows.append(code(context, concepts.IMAGE_LATERALITY, breast))
    if view := _view(read):
        modifiers = [
            code(Relationship.HAS_CONCEPT_MOD, concepts.IMAGE_VIEW_MODIFIER, modifier)
            for described in attributes.items(header, "ViewCodeSequence")[:1]
            for item in attributes.items(described, "ViewModifierCodeSequence")
            if (modifier := _current(item))
        ]
        rows.append(code(context, concepts.IMAGE_VIEW, view, *modifiers))
    orientation = header.get("PatientOrientation")
    if orientation and not isinstance(orientation, str) and len(orientation) == 2 and all(orientation):
        rows.append(text(context, concepts.PATIENT_ORIENTATION_ROW, str(orientation[0])))
        rows.append(text(context, concepts.PATIENT_ORIENTATION_COLUMN, str(orientation[1])))
    for keyword, concept, item, form in (
        ("StudyDate", concepts.STUDY_DATE, date, _DATE),
        ("StudyTime", concepts.STUDY_TIME, time, _TIME),
        ("ContentDate", concepts.CONTENT_DATE, date, _DATE),
        ("ContentTime", concepts.CONTENT_TIME, time, _TIME),
    ):
        said = attributes.text(header, keyword)
        if said and form.fullmatch(said):
            rows.append(item(context, concept, said))
    spacing = attributes.pair(header, "ImagerPixelSpacing") or attributes.pair(header, "PixelSpacing")
    if spacing:
        rows.append(num(context, concepts.HORIZONTAL_PIXEL_SPACING, spacing.column_mm * 1000, concepts.MICROMETER))
        rows.append(num(context, concepts.VERTICAL_PIXEL_SPACING, spacing.row_mm * 1000, concepts.MICROMETER))
    return image(Relationship.CONTAINS, header.SOPClassUID, header.SOPInstanceUID, *rows)


def _breast(read: ReadMammogram) -> Code | None:
    """Which breast: as Image Laterality says, which alone can say both, or else as the mammogram knows."""
    said = attributes.text(read.header, "ImageLaterality")
    return _BREAST.get(said or "") or _BREAST.get(read.mammogram.laterality or "")


def _view(read: ReadMammogram) -> Code | None:
    """Which view: the image's own code, or else the code of what View Position or the like says."""
    described = attributes.items(read.header, "ViewCodeSequence")[:1]
    own = _current(described[0]) if described else None
    return own or (_VIEW.get(read.mammogram.view) if read.mammogram.view else None)


def _current(item: Dataset) -> Code | None:
    """The code of a view or modifier, in today's SNOMED CT where an old image has the retired SNOMED RT.

    ``None`` where it is incomplete, or longer than the short code values of the concepts that are meant here.
    """
    value, scheme = attributes.code(item), attributes.text(item, "CodingSchemeDesignator")
    if not value or not scheme or len(value) > _MAX_CODE_VALUE:
        return None
    found = Code(value, scheme, attributes.text(item, "CodeMeaning") or value)
    if found.scheme_designator not in _SNOMED_RT:
        return found
    retired = Code(found.value, "SRT", found.meaning)
    known = [getattr(group, name) for group in (codes.cid4014, codes.cid4015) for name in group.dir()]
    return next((concept for concept in known if retired == concept), found)


def _impression(tracked: TrackedFinding, entry: Item, algorithm: Algorithm) -> Item:
    """TID 4003, with one finding."""
    return container(
        Relationship.INFERRED_FROM,
        concepts.INDIVIDUAL_IMPRESSION,
        code(Relationship.HAS_CONCEPT_MOD, concepts.RENDERING_INTENT, concepts.PRESENTATION_REQUIRED),
        _single_image_finding(Relationship.CONTAINS, tracked, entry, algorithm),
    )


def _single_image_finding(
    relationship: Relationship, tracked: TrackedFinding, entry: Item, algorithm: Algorithm
) -> Item:
    """TID 4006. The finding's image is the library entry that its coordinates are selected from."""
    certainty = round(tracked.finding.score * 100, 1)
    properties = Relationship.HAS_PROPERTIES
    observed = Relationship.HAS_OBS_CONTEXT
    return code(
        relationship,
        concepts.SINGLE_IMAGE_FINDING,
        _FINDING_CODES[tracked.finding.label.casefold()],
        code(Relationship.HAS_CONCEPT_MOD, concepts.RENDERING_INTENT, concepts.PRESENTATION_REQUIRED),
        text(observed, concepts.TRACKING_IDENTIFIER, printable(tracked.tracking_identifier)),
        uid_reference(observed, concepts.TRACKING_UNIQUE_IDENTIFIER, tracked.tracking_uid),
        *_algorithm(algorithm),
        num(properties, concepts.CERTAINTY_OF_FINDING, certainty, concepts.PERCENT),
        scoord(properties, concepts.CENTER, GraphicType.POINT, [tracked.box.center], entry),
        scoord(properties, concepts.OUTLINE, GraphicType.POLYLINE, outline(tracked.box), entry),
    )


def _algorithm(algorithm: Algorithm, parameters: Sequence[str] = ()) -> list[Item]:
    """TID 4019."""
    properties = Relationship.HAS_PROPERTIES
    return [
        text(properties, concepts.ALGORITHM_NAME, printable(algorithm.name)),
        text(properties, concepts.ALGORITHM_VERSION, printable(algorithm.version)),
        *(text(properties, concepts.ALGORITHM_PARAMETERS, parameter) for parameter in parameters),
    ]


def _overall(images: Sequence[ReadMammogram], *, found: bool) -> Code:
    """The value of TID 4001, row 1."""
    processed = sum(read.processed for read in images)
    if processed == 0:
        return concepts.NONE_SUCCEEDED
    if processed == len(images):
        return concepts.ALL_SUCCEEDED_WITH_FINDINGS if found else concepts.ALL_SUCCEEDED_WITHOUT_FINDINGS
    return concepts.NOT_ALL_SUCCEEDED_WITH_FINDINGS if found else concepts.NOT_ALL_SUCCEEDED_WITHOUT_FINDINGS


def _summary_of_detections(images: Sequence[ReadMammogram], library: Sequence[Item], algorithm: Algorithm) -> Item:
    """TID 4000 row 6 with TID 4015: on which images the search for masses succeeded, and on which it failed."""
    succeeded = [entry for read, entry in zip(images, library, strict=True) if read.processed]
    failed = [entry for read, entry in zip(images, library, strict=True) if not read.processed]
    thresholds = {read.reading.threshold for read in images if read.reading.threshold is not None}
    parameters = [f"threshold={threshold:.6g}" for threshold in sorted(thresholds)]
    status = concepts.PARTIALLY_SUCCEEDED
    if not failed:
        status = concepts.SUCCEEDED
    elif not succeeded:
        status = concepts.FAILED
    return code(
        Relationship.CONTAINS,
        concepts.SUMMARY_OF_DETECTIONS,
        status,
        *(
            container(Relationship.INFERRED_FROM, heading, _detection_performed(entries, algorithm, parameters))
            for heading, entries in (
                (concepts.SUCCESSFUL_DETECTIONS, succeeded),
                (concepts.FAILED_DETECTIONS, failed),
            )
            if entries
        ),
    )


def _detection_performed(entries: Sequence[Item], algorithm: Algorithm, parameters: Sequence[str]) -> Item:
    """TID 4017."""
    return code(
        Relationship.CONTAINS,
        concepts.DETECTION_PERFORMED,
        concepts.MASS_ON_ONE_IMAGE,
        *_algorithm(algorithm, parameters),
        *(Reference(Relationship.HAS_PROPERTIES, entry) for entry in entries),
    )


def _evidence(images: Sequence[ReadMammogram]) -> Dataset:
    """The images by series, as the SR Document General module lists them (PS3.3 C.17.2)."""
    by_series: dict[str, list[Dataset]] = {}
    for read in images:
        reference = sop_reference(read.header.SOPClassUID, read.header.SOPInstanceUID)
        by_series.setdefault(read.header.SeriesInstanceUID, []).append(reference)
    study = Dataset()
    study.StudyInstanceUID = images[0].header.StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for uid, references in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = references
        study.ReferencedSeriesSequence.append(series)
    return study
