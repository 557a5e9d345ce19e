"""Rejection note: the results that a newer report replaces, as a Key Object Selection after IHE IOCM.

An archive that knows the profile (IHE Radiology TF-1, Imaging Object Change Management) hides what such a note names.
It never names an image of the patient's.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import highdicom as hd
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from mammoscope.findings import Algorithm
from mammoscope.results.base import (
    MANUFACTURER,
    RESEARCH_USE,
    ResultReference,
    ResultSeries,
    device_uid,
    finished,
    model_in_few_words,
    result_instance_uid,
    result_series_uid,
)
from mammoscope.results.sr_tree import sop_reference
from mammoscope.results.study import ReadMammogram, ResultError
from mammoscope.settings import ResultKind

REJECTED = codes.DCM.RejectedForQualityReasons
"""Title of the note (CID 7011): the one by which archives hide objects from display and keep them."""
OURS = frozenset(
    {
        MammographyCADSRStorage,
        Comprehensive3DSRStorage,
        GrayscaleSoftcopyPresentationStateStorage,
        SecondaryCaptureImageStorage,
        SegmentationStorage,
    }
)
"""What a note may name: a result is never stored as what a mammogram is."""


def rejected_by(made: Sequence[ResultReference], supersedes: Sequence[ResultReference]) -> tuple[ResultReference, ...]:
    """The earlier objects that are no longer among a study's results; notes themselves stay."""
    kept = {one.sop_instance for one in made}
    return tuple(
        one for one in supersedes if one.sop_instance not in kept and one.kind is not ResultKind.REJECTION_NOTE
    )


def rejection_note(
    image: ReadMammogram,
    algorithm: Algorithm,
    rejected: Sequence[ResultReference],
    *,
    now: datetime | None = None,
) -> FileDataset:
    """A Key Object Selection Document (PS3.3 A.35.4) that rejects earlier results of a study.

    Parameters
    ----------
    image
        Lends patient and study.
    rejected
        The objects, as of `rejected_by`.
    now
        Content date and time; the clock's unless given.

    Raises
    ------
    ResultError
        If there is nothing to reject, or something that is none of our results or of another study.
    """
    study = str(image.header.StudyInstanceUID)
    if not rejected:
        raise ResultError("There is no earlier result to reject.")
    for one in rejected:
        if one.sop_class not in OURS or one.study != study:
            raise ResultError(f"A rejection note may not name {one.sop_instance}: it is no result of this study.")
    series = ResultSeries.REJECTION_NOTE
    observer = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(algorithm), name="Mammoscope", manufacturer_name=MANUFACTURER
    )
    content = hd.ko.KeyObjectSelection(
        document_title=REJECTED,
        referenced_objects=[_evidence(one) for one in rejected],
        observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, observer),
        description=f"Replaced by {model_in_few_words(algorithm, 64)}, {RESEARCH_USE}",
    )
    made = hd.ko.KeyObjectSelectionDocument(
        evidence=[_evidence(one) for one in rejected],
        content=content,
        series_instance_uid=result_series_uid(series, image, algorithm),
        series_number=series.value.number,
        sop_instance_uid=result_instance_uid(series, [image], algorithm, [one.sop_instance for one in rejected]),
        instance_number=1,
        manufacturer=MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    note = finished(made, image, series, algorithm, now)
    note.CurrentRequestedProcedureEvidenceSequence = [_evidence_of_study(study, rejected)]
    return note


def _evidence(one: ResultReference) -> Dataset:
    """An object as highdicom is given it; patient and study come from the mammogram afterwards."""
    evidence = Dataset()
    evidence.SOPClassUID, evidence.SOPInstanceUID = one.sop_class, one.sop_instance
    evidence.StudyInstanceUID, evidence.SeriesInstanceUID = one.study, one.series
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(evidence, keyword, "")
    evidence.StudyDate = evidence.StudyTime = evidence.ReferringPhysicianName = ""
    return evidence


def _evidence_of_study(study: str, rejected: Sequence[ResultReference]) -> Dataset:
    """Every object under its series (PS3.3 Table C.17-3a), the older ones first."""
    by_series: dict[str, list[ResultReference]] = defaultdict(list)
    for one in rejected:
        by_series[one.series].append(one)
    item = Dataset()
    item.StudyInstanceUID = study
    item.ReferencedSeriesSequence = []
    for uid, objects in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = [sop_reference(one.sop_class, one.sop_instance) for one in objects]
        item.ReferencedSeriesSequence.append(series)
    return item
