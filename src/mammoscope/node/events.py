"""What happens in a node, as facts that the log, the metrics and the audit trail are made of.

No event holds a patient's name, number or date: studies and objects are named by their UIDs.

The listener that writes each event as a line of the node's log.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import structlog

from mammoscope.logging import where_raised
from mammoscope.reasons import ReasonCode


class Origin(StrEnum):
    """Why a study is here."""

    SENT = "sent"
    PULLED = "pulled"
    PHANTOM = "phantom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Parameters
    ----------
    at
        In UTC.
    """

    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted(Event):
    """The node is up.

    Parameters
    ----------
    version
        Of Mammoscope.
    algorithm
        Name and version of the model that reads.
    """

    version: str
    algorithm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStopped(Event):
    """The node was stopped in order; after a crash there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRefused(Event):
    """A peer was not let in.

    Parameters
    ----------
    times
        How many refusals this one stands for, where they come too fast to be told one by one.
    """

    peer: str
    address: str
    reason: str
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReceived(Event):
    """An object arrived and was answered.

    Parameters
    ----------
    peer
        Calling AE title, or the name of the source, or of the token's holder by DICOMweb.
    outcome
        ``stored``, ``known``, ``ignored`` or ``refused``.
    """

    study: str
    sop_instance: str
    sop_class: str
    peer: str
    address: str
    outcome: str
    reason: str | None = None
    origin: Origin = Origin.SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRead(Event):
    """One image of a report.

    Parameters
    ----------
    scanner
        Manufacturer and model, for figures by scanner.
    reason, reason_code
        Why it was not processed, or ``None``.
    """

    study: str
    sop_instance: str
    scanner: str
    findings: int
    reason: str | None
    seconds: float
    origin: Origin = Origin.SENT
    reason_code: ReasonCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRead(Event):
    """A report was made.

    Parameters
    ----------
    seconds
        Reading and making the objects.
    waited_seconds
        From the study's last image to the start of its reading.
    supersedes
        Number of the report that this one replaces.
    absent_views
        Expected views, such as ``LMLO``, of which no image came.
    """

    study: str
    report: int
    images: int
    findings: int
    not_processed: int
    seconds: float
    waited_seconds: float
    supersedes: int | None = None
    absent_views: tuple[str, ...] = ()
    origin: Origin = Origin.SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFailed(Event):
    """A try to read a study gave no results."""

    study: str
    reason: str
    origin: Origin = Origin.SENT
    reason_code: ReasonCode = ReasonCode.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPutOff(Event):
    """A study is read later, for trouble of the machine that is nothing to be said of the patient.

    Parameters
    ----------
    part
        What is in trouble: ``model``, ``decoder``, ``memory`` or ``disk``.
    """

    study: str
    part: str
    origin: Origin = Origin.SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingFailed(Event):
    """A try to send a report; it is tried again."""

    study: str
    report: int
    destination: str
    tries: int
    reason: str
    origin: Origin = Origin.SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSent(Event):
    """A destination has all of a report that it takes.

    Parameters
    ----------
    seconds
        From the making of the report.
    """

    study: str
    report: int
    destination: str
    sop_instances: tuple[str, ...]
    tries: int
    seconds: float
    origin: Origin = Origin.SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportParked(Event):
    """A destination refused an object, or could not be reached for too long; a person must look."""

    study: str
    report: int
    destination: str
    tries: int
    reasons: tuple[str, ...]
    origin: Origin = Origin.SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRetried(Event):
    """A person had a study read again.

    Parameters
    ----------
    person
        Name of the account of the operating system.
    """

    study: str
    person: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResent(Event):
    """A person had a report sent again.

    Parameters
    ----------
    destination
        ``None`` for every one that has it not yet.
    """

    study: str
    report: int
    destination: str | None
    person: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesRemoved(Event):
    """The images of a study were deleted after their time; its records stay."""

    study: str
    images: int


Listener = Callable[[Event], None]
"""Told of each event, in the thread where it happened; must be quick and raise nothing."""


_WORDS: dict[type[Event], tuple[str, str]] = {
    ImageRead: ("info", "image read"),
    ImagesRemoved: ("info", "images removed"),
    ReportParked: ("error", "results not sent"),
    ReportSent: ("info", "results sent"),
    SendingFailed: ("warning", "results not sent yet"),
    StudyFailed: ("error", "study failed"),
    StudyPutOff: ("warning", "study put off"),
    StudyRead: ("info", "study read"),
}
"""Level and event of the log; who is refused, the network's own log tells."""

log = structlog.get_logger(__name__)


def log_event(event: Event) -> None:
    """Write an event to the log."""
    facts = {name: value for name, value in asdict(event).items() if value is not None}
    del facts["at"]  # the log has its own
    if isinstance(event, ObjectReceived) and event.outcome != "refused":
        log.info(f"object {event.outcome}", **facts)
    elif type(event) in _WORDS:
        level, words = _WORDS[type(event)]
        getattr(log, level)(words, **facts)


class Announcer:
    """Tells every listener of each event. A listener that fails keeps nothing from the others."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def __call__(self, event: Event) -> None:
        """Tell it."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:
                log.warning("listener failed", event_kind=type(event).__name__, error=where_raised(error))
