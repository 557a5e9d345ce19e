"""`QueryClient`: finds and fetches studies of an archive that speaks DICOM only (DICOM PS3.4 Annex C, study root).

What a query finds and how a retrieval ends, whichever protocol it went by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    BasicTextSRStorage,
    ColorSoftcopyPresentationStateStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    MRImageStorage,
    ParametricMapStorage,
    RawDataStorage,
    SegmentationStorage,
    SpatialRegistrationStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayRadiationDoseSRStorage,
)
from pynetdicom import build_role, evt
from pynetdicom.presentation import PresentationContext, build_context

from mammoscope.errors import MammoscopeError
from mammoscope.network.acceptor import LARGEST_OBJECT, GuardedDimse, IncomingFile, discard
from mammoscope.network.association import Caller
from mammoscope.network.peers import DimsePeer, check_status
from mammoscope.network.received import CANNOT_UNDERSTAND, SUCCESS, Receiver, take
from mammoscope.network.sop_classes import (
    READ_SOP_CLASSES,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
)

STUDY_KEYS = ("StudyInstanceUID", "StudyDate", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
"""All that is asked of an archive about a study: nothing of the patient."""


class QueryError(MammoscopeError):
    """A query that cannot be asked."""


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study that an archive has.

    Parameters
    ----------
    date
        As in the archive, ``YYYYMMDD``; empty where it has none.
    modalities, instances
        Empty and ``None`` where the archive does not say.
    accession
        Empty where the archive does not say; not compared, and never shown in logs.
    """

    study_instance_uid: str
    date: str = ""
    modalities: tuple[str, ...] = ()
    instances: int | None = None
    accession: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How the retrieval of one study ended.

    Parameters
    ----------
    completed
        Objects that arrived and were taken.
    failed
        Objects that did not.
    failed_sop_instances
        Those of them that are known by name.
    reasons
        In words.
    """

    completed: int
    failed: int = 0
    failed_sop_instances: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the whole study is here."""
        return self.failed == 0


def study_date_range(since: date | None, until: date | None) -> str:
    """Write a range match of dates (DICOM PS3.4 C.2.2.2.5), both ends included; empty to match all."""
    if since is None and until is None:
        return ""
    return "-".join(day.strftime("%Y%m%d") if day is not None else "" for day in (since, until))


def check_keywords(where: Mapping[str, str]) -> None:
    """Check what a study must match.

    Raises
    ------
    QueryError
        If a keyword is none of DICOM's (PS3.6).
    """
    for keyword in where:
        if tag_for_keyword(keyword) is None:
            raise QueryError(f"'{keyword}' is no keyword of DICOM; write for example ModalitiesInStudy=MG")


def found_study(answer: Dataset) -> FoundStudy | None:
    """Read one match; ``None`` where it names no study."""
    uid = str(answer.get("StudyInstanceUID") or "")
    if not uid:
        return None
    modalities = answer.get("ModalitiesInStudy") or ()
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    instances = answer.get("NumberOfStudyRelatedInstances")
    count = int(instances) if instances not in (None, "") else None
    accession = str(answer.get("AccessionNumber") or "").strip()
    return FoundStudy(uid, str(answer.get("StudyDate") or ""), modalities, count, accession)


def matches(study: FoundStudy, where: Mapping[str, str]) -> bool:
    """Whether a study has the modality asked for, where the archive says which ones it has.

    Matching Modalities in Study is optional (DICOM PS3.4 Table C.6-5): an archive may ignore it and answer with all.
    """
    wanted = {m for m in where.get("ModalitiesInStudy", "").split("\\") if m}
    return not wanted or not study.modalities or not wanted.isdisjoint(study.modalities)


COMPANIONS = (
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    Comprehensive3DSRStorage,
    BasicTextSRStorage,
    XRayRadiationDoseSRStorage,
    ColorSoftcopyPresentationStateStorage,
    SegmentationStorage,
    ParametricMapStorage,
    SpatialRegistrationStorage,
    RawDataStorage,
    EncapsulatedPDFStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    MRImageStorage,
)
"""What lies beside mammograms; fetched too, because an archive counts what it cannot give as failed, or gives nothing
of a study that holds such an object. With the images' encodings some hundred of the 128 contexts there may be."""


class QueryClient:
    """A query/retrieve SCU.

    Parameters
    ----------
    caller
        Its time-out is how long an archive may be silent between two answers; one on tape needs minutes.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def find_studies(
        self,
        source: DimsePeer,
        where: Mapping[str, str] | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> tuple[FoundStudy, ...]:
        """Ask for studies by C-FIND.

        An archive may give no more than so many matches without saying so: ask for short spans of time.

        Parameters
        ----------
        where
            What they must match, by keyword, for example ``{"ModalitiesInStudy": "MG"}``.
        since, until
            First and last study date.

        Raises
        ------
        QueryError
            If a keyword is unknown.
        NetworkError
            If the source cannot be asked, or answers with an error.
        """
        where = where or {}
        check_keywords(where)
        identifier = _study_identifier()
        for keyword in STUDY_KEYS:
            setattr(identifier, keyword, "" if keyword != "NumberOfStudyRelatedInstances" else None)
        identifier.StudyDate = study_date_range(since, until)
        for keyword, value in where.items():
            setattr(identifier, keyword, value)
        found: list[FoundStudy] = []
        with self._caller.associated(source, [build_context(STUDY_ROOT_FIND)]) as association:
            for answer, match in association.send_c_find(identifier, STUDY_ROOT_FIND):
                _check(answer, source, "a query")
                study = found_study(match) if match is not None else None
                if study is not None and matches(study, where):
                    found.append(study)
        return tuple(found)

    def find_instances(self, source: DimsePeer, study: str) -> frozenset[str]:
        """Ask for the SOP Instance UIDs of a study by C-FIND: first its series, then the images of each.

        Raises
        ------
        NetworkError
            If the source cannot be asked, or answers with an error.
        """
        found: set[str] = set()
        with self._caller.associated(source, [build_context(STUDY_ROOT_FIND)]) as association:

            def ask(level: str, keyword: str, **above: str) -> list[str]:
                identifier = _study_identifier(study)
                identifier.QueryRetrieveLevel = level
                for name, value in {keyword: "", **above}.items():
                    setattr(identifier, name, value)
                answers = []
                for answer, match in association.send_c_find(identifier, STUDY_ROOT_FIND):
                    _check(answer, source, f"a query for the {level.lower()} level")
                    if match is not None and (uid := str(match.get(keyword) or "")):
                        answers.append(uid)
                return answers

            for series in ask("SERIES", "SeriesInstanceUID"):
                found.update(ask("IMAGE", "SOPInstanceUID", SeriesInstanceUID=series))
        return frozenset(found)

    def move(self, source: DimsePeer, study: str, to_ae_title: str) -> Retrieval:
        """Have the source send a study to an AE title that it knows, by C-MOVE.

        Raises
        ------
        NetworkError
            If the source cannot be asked, or answers with an error.
        """
        with self._caller.associated(source, [build_context(STUDY_ROOT_MOVE)]) as association:
            return _sub_operations(
                association.send_c_move(_study_identifier(study), to_ae_title, STUDY_ROOT_MOVE), source, study
            )

    def get(self, source: DimsePeer, study: str, receive: Receiver, folder: Path) -> Retrieval:
        """Fetch a study by C-GET, over the association that asks for it.

        Parameters
        ----------
        receive
            Given each object in turn, as a file that vanishes when it returns.
        folder
            For objects on their way in.

        Raises
        ------
        NetworkError
            If the source cannot be asked, or answers with an error.
        """
        folder.mkdir(parents=True, exist_ok=True)
        reasons: list[str] = []
        contexts = _contexts_to_get()
        stored = {str(context.abstract_syntax) for context in contexts[1:]}
        roles = [build_role(sop_class, scu_role=False, scp_role=True) for sop_class in sorted(stored)]
        taken = partial(_take, receive=receive, source=source, reasons=reasons)
        with self._caller.associated(source, contexts, roles=roles, handlers=[(evt.EVT_C_STORE, taken)]) as association:
            association.dimse = GuardedDimse(association, folder, LARGEST_OBJECT, lambda: None)
            ended = _sub_operations(association.send_c_get(_study_identifier(study), STUDY_ROOT_GET), source, study)
        return Retrieval(ended.completed, ended.failed, ended.failed_sop_instances, (*reasons, *ended.reasons))


def _study_identifier(study: str = "") -> Dataset:
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study
    return identifier


def _contexts_to_get() -> list[PresentationContext]:
    """One context for each encoding: the archive must be able to send each object as it has it."""
    images = [build_context(sop_class, syntax) for sop_class in READ_SOP_CLASSES for syntax in TRANSFER_SYNTAXES]
    others = [build_context(sop_class, list(UNCOMPRESSED)) for sop_class in COMPANIONS]
    return [build_context(STUDY_ROOT_GET), *images, *others]


def _take(event: evt.Event, receive: Receiver, source: DimsePeer, reasons: list[str]) -> int:
    file = event.request._dataset_file
    if file is None:
        return CANNOT_UNDERSTAND
    try:
        earlier = file.refusal if isinstance(file, IncomingFile) else None
        _, refusal = take(Path(file.name), receive, source.name, source.host, earlier)
    finally:
        discard(file)
    if refusal is None:
        return SUCCESS
    reasons.append(str(refusal))
    return refusal.status


def _sub_operations(answers: Iterable[tuple[Dataset, Dataset | None]], source: DimsePeer, study: str) -> Retrieval:
    """Follow the answers to the last one, which counts the sub-operations (DICOM PS3.4 C.4.2.1.6, C.4.3.1.4)."""
    final = Dataset()
    failed_uids: tuple[str, ...] = ()
    for answer, identifier in answers:
        final = answer
        if identifier is not None:
            listed = identifier.get("FailedSOPInstanceUIDList") or ()
            failed_uids = (str(listed),) if isinstance(listed, str) else tuple(str(uid) for uid in listed)
    what = f"the retrieval of study {study}"
    completed = int(final.get("NumberOfCompletedSuboperations") or 0)
    warned = int(final.get("NumberOfWarningSuboperations") or 0)
    failed = int(final.get("NumberOfFailedSuboperations") or 0)
    if completed + warned + failed == 0:
        _check(final, source, what)
    reasons = (f"{source} could not send {failed} objects of study {study}",) if failed else ()
    return Retrieval(completed + warned, failed, failed_uids, reasons)


def _check(answer: Dataset, source: DimsePeer, what: str) -> None:
    if answer.get("Status") not in (0xFF00, 0xFF01):  # pending: one of several answers
        check_status(answer, source, what)
