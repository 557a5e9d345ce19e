"""Storage commitment (DICOM PS3.4 Annex J): we promise to keep what we were sent, and ask others to."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import structlog
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import N_ACTION_RSP
from pynetdicom.presentation import build_context

from mammoscope.network.association import Caller
from mammoscope.network.errors import ConnectionLostError, NetworkError
from mammoscope.network.peers import DimsePeer, check_status
from mammoscope.network.sop_classes import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE

SUCCESS = 0x0000
INVALID_ARGUMENT = 0x0115
NO_SUCH_ACTION = 0x0123
NO_SUCH_OBJECT = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event types of PS3.4 Table J.3-3."""

REPORT_WAITS_SECONDS = (0.0, 5.0, 30.0, 120.0, 600.0)
SAME_ASSOCIATION_SECONDS = 10.0
"""How long we leave the association open on which we asked, for peers that report on it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP instance, named as storage commitment does."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a peer promised to keep.

    Parameters
    ----------
    committed
        SOP Instance UIDs.
    failed
        SOP Instance UIDs, each with the Failure Reason (0008,1197).
    """

    committed: frozenset[str]
    failed: Mapping[str, int]


class CommitmentReports:
    """The reports that are waited for, by transaction; they may come on any association."""

    def __init__(self) -> None:
        self._waiting: dict[str, queue.SimpleQueue[CommitmentReport]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def expected(self, transaction: str) -> Iterator["queue.SimpleQueue[CommitmentReport]"]:
        """Wait for the report of a transaction, as long as the context is open."""
        arrivals: queue.SimpleQueue[CommitmentReport] = queue.SimpleQueue()
        with self._lock:
            self._waiting[transaction] = arrivals
        try:
            yield arrivals
        finally:
            with self._lock:
                del self._waiting[transaction]

    def on_report(self, event: evt.Event) -> tuple[int, None]:
        """Take an N-EVENT-REPORT; one that nobody waits for any more is acknowledged and dropped."""
        information = event.event_information
        with self._lock:
            arrivals = self._waiting.get(str(information.get("TransactionUID", "")))
        if arrivals is None:
            log.info("commitment report that nobody waits for", peer=event.assoc.remote["ae_title"])
        else:
            arrivals.put(_read_report(information))
        return SUCCESS, None


class CommitmentService:
    """Answers requests for storage commitment, beside a `StorageService` (one of its ``extensions``).

    The report goes on a new association to the caller if its address is known, otherwise on the one it asked on, as
    long as that is open. A peer that cannot be reached is tried again for a quarter of an hour, in memory: after that,
    or a restart, it has to ask again.

    Parameters
    ----------
    is_kept
        Given a SOP Class UID and a SOP Instance UID: whether we hold that object safely.
    find_peer
        Gives the peer with a calling AE title, or ``None``.
    caller
        Opens the associations for reports.
    reports
        Also takes the reports on what we asked others, see `CommitmentClient`.
    is_held
        Given a SOP Instance UID: whether we hold that object under whatever class. One asked for under another class is
        then told apart from one that we do not have.
    """

    sop_class = STORAGE_COMMITMENT

    def __init__(
        self,
        is_kept: Callable[[str, str], bool],
        find_peer: Callable[[str], DimsePeer | None],
        caller: Caller,
        reports: CommitmentReports | None = None,
        *,
        waits_seconds: Sequence[float] = REPORT_WAITS_SECONDS,
        is_held: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._is_kept = is_kept
        self._is_held = is_held
        self._find_peer = find_peer
        self._caller = caller
        self._reports = reports or CommitmentReports()
        self._waits = tuple(waits_seconds)
        self._asked: dict[int, Dataset] = {}

    def handlers(self) -> list[evt.EventHandlerType]:
        """What is answered."""
        return [
            (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_DIMSE_SENT, self._on_sent),
            (evt.EVT_N_EVENT_REPORT, self._reports.on_report),
        ]

    def _on_action(self, event: evt.Event) -> tuple[int, None]:
        if event.action_type != 1:
            return NO_SUCH_ACTION, None
        asked = event.action_information
        if not asked.get("TransactionUID") or not asked.get("ReferencedSOPSequence"):
            return INVALID_ARGUMENT, None
        self._asked[id(event.assoc)] = asked
        return SUCCESS, None

    def _on_sent(self, event: evt.Event) -> None:
        """Begin with the report only when the request itself has been answered."""
        if isinstance(event.message, N_ACTION_RSP):
            asked = self._asked.pop(id(event.assoc), None)
            if asked is not None:
                threading.Thread(target=self._answer, args=(event.assoc, asked), name="commitment", daemon=True).start()

    def _answer(self, association: Association, asked: Dataset) -> None:
        report = self._report(asked)
        title = association.requestor.ae_title
        peer = self._find_peer(title)
        try:
            if peer is None:
                _send_report(association, report, DimsePeer(title, title, association.requestor.address, 0))
            else:
                self._call_back(peer, report)
        except (NetworkError, RuntimeError, ValueError) as error:
            log.warning("commitment not reported", peer=title, reason=str(error))

    def _call_back(self, peer: DimsePeer, report: Dataset) -> None:
        roles = [build_role(STORAGE_COMMITMENT, scu_role=False, scp_role=True)]
        for tried, wait in enumerate(self._waits, start=1):
            time.sleep(wait)
            try:
                with self._caller.associated(peer, [build_context(STORAGE_COMMITMENT)], roles=roles) as association:
                    _send_report(association, report, peer)
            except NetworkError as error:
                if tried == len(self._waits) or not error.worth_retrying:
                    raise
            else:
                return

    def _report(self, asked: Dataset) -> Dataset:
        kept, missing = [], []
        for item in asked.ReferencedSOPSequence:
            reference = _reference(
                Instance(str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
            )
            if self._is_kept(reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID):
                kept.append(reference)
            else:
                held = self._is_held(reference.ReferencedSOPInstanceUID)
                reference.FailureReason = CLASS_INSTANCE_CONFLICT if held else NO_SUCH_OBJECT
                missing.append(reference)
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        if kept:
            report.ReferencedSOPSequence = kept
        if missing:
            report.FailedSOPSequence = missing
        log.info("commitment asked", kept=len(kept), missing=len(missing))
        return report


class CommitmentClient:
    """Asks peers to promise that they keep objects.

    Parameters
    ----------
    reports
        The same as that of the `CommitmentService` on our own port: most peers report there.
    """

    def __init__(self, caller: Caller, reports: CommitmentReports) -> None:
        self._caller = caller
        self._reports = reports

    def ask(self, peer: DimsePeer, instances: Sequence[Instance], wait_seconds: float = 60.0) -> CommitmentReport:
        """Ask for commitment and wait for the report.

        Raises
        ------
        NetworkError
            If the peer cannot be asked; `ConnectionLostError` if no report comes in time.
        """
        transaction = generate_uid()
        asked = Dataset()
        asked.TransactionUID = transaction
        asked.ReferencedSOPSequence = [_reference(instance) for instance in instances]
        with self._reports.expected(transaction) as arrivals:
            same = min(SAME_ASSOCIATION_SECONDS, wait_seconds)
            with self._caller.associated(
                peer,
                [build_context(STORAGE_COMMITMENT)],
                handlers=[(evt.EVT_N_EVENT_REPORT, self._reports.on_report)],
            ) as association:
                answer, _ = association.send_n_action(asked, 1, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
                check_status(answer, peer, "the request for storage commitment")
                report = _next(arrivals, same)
            report = report or _next(arrivals, wait_seconds - same)
        if report is None:
            raise ConnectionLostError(
                f"{peer} took the request for storage commitment but sent no report in {wait_seconds:.0f} s; check that"
                f" it knows {self._caller.ae_title}, its address and port"
            )
        return report


def _next(arrivals: "queue.SimpleQueue[CommitmentReport]", seconds: float) -> CommitmentReport | None:
    try:
        return arrivals.get(timeout=max(0.0, seconds))
    except queue.Empty:
        return None


def _send_report(association: Association, report: Dataset, peer: DimsePeer) -> None:
    kind = SOME_FAILED if "FailedSOPSequence" in report else ALL_COMMITTED
    answer, _ = association.send_n_event_report(report, kind, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
    check_status(answer, peer, "a commitment report")


def _reference(instance: Instance) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.sop_class_uid
    reference.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return reference


def _read_report(information: Dataset) -> CommitmentReport:
    failed = {
        str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or 0)
        for item in information.get("FailedSOPSequence") or ()
    }
    committed = frozenset(str(item.ReferencedSOPInstanceUID) for item in information.get("ReferencedSOPSequence") or ())
    return CommitmentReport(committed - failed.keys(), MappingProxyType(failed))
