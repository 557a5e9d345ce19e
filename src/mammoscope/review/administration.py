"""`NodeAdministration`: how the node beside the reading room stands, and what an administrator has it do again."""

import threading
from dataclasses import dataclass

from mammoscope.node.audit.recorder import audit_line
from mammoscope.node.audit.trail import AuditTrail
from mammoscope.node.db.models import StudyRecord, WorkerRecord
from mammoscope.node.db.repository import Records
from mammoscope.node.events import Event, ReportResent, StudyRetried
from mammoscope.node.monitoring.metrics import NodeState, is_alive, read_state
from mammoscope.node.preflight import Outcome, check_node
from mammoscope.review.errors import NotFoundError, ReviewError
from mammoscope.settings import NodeSettings

REFUSALS = frozenset(("AssociationRefused", "LoginRefused", "ReportParked", "SendingFailed", "StudyFailed"))
"""Events of the audit trail that tell of something that was not let in, not read or not sent."""
LOOKED_THROUGH = 5000
"""Last lines of the audit trail among which they are looked for."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that works for the node, and whether it was heard of lately."""

    record: WorkerRecord
    alive: bool


class NodeAdministration:
    """What ``mammoscope node status``, ``show``, ``check``, ``retry`` and ``resend`` do, for pages.

    Parameters
    ----------
    records, audit
        The node's.
    """

    def __init__(self, settings: NodeSettings, records: Records, audit: AuditTrail) -> None:
        self._settings = settings
        self._records = records
        self._audit = audit
        self._checking = threading.Lock()

    @property
    def shadow(self) -> bool:
        """Whether results are made and sent to no one."""
        return self._settings.node.shadow

    def state(self) -> NodeState:
        """How the node stands now."""
        return read_state(self._settings, self._records)

    def workers(self) -> tuple[Worker, ...]:
        """The processes that read and send."""
        return tuple(Worker(record, is_alive(record)) for record in self._records.workers())

    def refusals(self, limit: int = 100) -> list[dict[str, object]]:
        """What was not let in, not read or not sent, as lines of the audit trail, the newest first."""
        lines = self._audit.last(LOOKED_THROUGH)
        return [line for line in lines if line.get("event") in REFUSALS or line.get("outcome") == "refused"][:limit]

    def check(self) -> tuple[Outcome, ...]:
        """Try disk, database, model, certificate and every peer; nothing is sent that a peer would keep.

        Raises
        ------
        ReviewError
            If somebody has it tried already.
        """
        if not self._checking.acquire(blocking=False):
            raise ReviewError("somebody has everything tried already: look again in a minute.")
        try:
            return tuple(check_node(self._settings))
        finally:
            self._checking.release()

    def study(self, study: str) -> StudyRecord:
        """All that the node knows of a study.

        Raises
        ------
        NotFoundError
            If it knows nothing.
        """
        record = self._records.study(study)
        if record is None:
            raise NotFoundError("the node knows nothing of this study.")
        return record

    def retry(self, study: str, person: str) -> str:
        """Have a study read again with the images that are still here; give a sentence that says so.

        Raises
        ------
        RecordsError
            If the study is not known, or its images were deleted.
        ReviewError
            If it was done and could not be noted.
        """
        self._records.retry(study)
        self._note(StudyRetried(study=study, person=person))
        return "The study will be read again."

    def resend(self, study: str, person: str, report: int | None = None, destination: str | None = None) -> str:
        """Have a report sent again, whole, whatever became of it before; give a sentence that says so.

        Parameters
        ----------
        report, destination
            As of `Records.resend`.

        Raises
        ------
        RecordsError
            If there is no such study, report or destination.
        ReviewError
            If it was done and could not be noted.
        """
        deliveries = self._records.resend(study, report, destination)
        number = report or self.study(study).reports[-1].number
        for delivery in deliveries:
            self._note(ReportResent(study=study, report=number, destination=delivery.destination, person=person))
        names = ", ".join(delivery.destination for delivery in deliveries)
        return f"Report {number} will be sent again to {names}."

    def _note(self, event: Event) -> None:
        try:
            self._audit.append([audit_line(event)])
        except OSError as error:
            raise ReviewError(
                f"it was done, but the audit trail cannot be written ({error.strerror}): tell your administrator."
            ) from None
