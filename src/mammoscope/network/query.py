"""`QueryClient`: finds and fetches studies of an archive that speaks DICOM only (DICOM PS3.4 Annex C, study root)."""

from collections.abc import Iterable, Mapping
from datetime import date
from functools import partial
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
)
from pynetdicom import build_role, evt
from pynetdicom.presentation import PresentationContext, build_context

from mammoscope.network.acceptor import LARGEST_OBJECT, GuardedDimse, IncomingFile, discard, out_of_resources
from mammoscope.network.caller import Caller
from mammoscope.network.errors import ObjectRefusedError
from mammoscope.network.peers import DimsePeer
from mammoscope.network.received import CANNOT_UNDERSTAND, SUCCESS, Receiver, identify
from mammoscope.network.retrieval import (
    STUDY_KEYS,
    FoundStudy,
    Retrieval,
    check_keywords,
    found_study,
    matches,
    study_date_range,
)
from mammoscope.network.sop_classes import (
    READ_SOP_CLASSES,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
)
from mammoscope.network.status import check_status

COMPANIONS = (
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)
"""What lies beside mammograms in most studies; fetched too, because an archive counts what it cannot give as failed."""


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
        take = partial(_take, receive=receive, source=source, reasons=reasons)
        with self._caller.associated(source, contexts, roles=roles, handlers=[(evt.EVT_C_STORE, take)]) as association:
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
        if isinstance(file, IncomingFile) and file.refusal is not None:
            raise file.refusal
        receive(identify(Path(file.name), source.name, source.host))
    except ObjectRefusedError as error:
        reasons.append(str(error))
        return error.status
    except OSError as error:
        refusal = out_of_resources(error)
        reasons.append(str(refusal))
        return refusal.status
    finally:
        discard(file)
    return SUCCESS


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
