"""What the node knows of one study, as people and programs are told it. UIDs only, no patients' names."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mammoscope.findings import ReadingStatus
from mammoscope.node.events import Origin
from mammoscope.reasons import ReasonCode, known_code

FoundBox = tuple[float, float, float, float, float, str]
"""x0, y0, x1, y1 in stored pixels, score, label."""


class StudyState(StrEnum):
    """How far a study came."""

    RECEIVING = "receiving"
    """Its images gather, or wait for their turn to be read."""
    READING = "reading"
    """A worker reads it."""
    SENDING = "sending"
    """A destination still waits for a report."""
    DONE = "done"
    """Every destination has what it takes; in shadow mode: read, nothing sent."""
    PARKED = "parked"
    """A destination refused a result or was out of reach for too long: a person must look."""
    FAILED = "failed"
    """A try to read it gave no results, and its images were put aside: a person must look."""


class DeliveryStatus(StrEnum):
    """How far a report, or one object of it, came on its way to one destination."""

    PENDING = "pending"
    SENT = "sent"
    PARKED = "parked"
    WITHHELD = "withheld"
    """Made in shadow mode: sent to no one unless a person resends it."""


class Whereabouts(StrEnum):
    """Where the file of an image is."""

    KEPT = "kept"
    """In the inbox."""
    ASIDE = "aside"
    """With those of a try that gave no results; sent again, it is tried anew."""
    REMOVED = "removed"
    """Deleted after its time."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class ObjectRecord(_Record):
    """One image that was received.

    Parameters
    ----------
    peer
        Who sent it.
    report
        Number of the last report that covers it; ``None`` when it waits.
    tries
        Tries to read it since.
    """

    sop_instance_uid: str
    sop_class_uid: str
    received_at: datetime
    peer: str
    whereabouts: Whereabouts
    report: int | None = None
    tries: int = 0


class ImageRecord(_Record):
    """How the reading of one image ended.

    Parameters
    ----------
    found
        Each finding as x0, y0, x1, y1 in stored pixels, score and label; empty for an image read before 0.3.
    reason_code
        ``None`` where it was read, or reported before 0.3.
    below
        What was proposed with lower scores than the threshold, as ``found``; the highest of it.
    below_known
        Whether ``below`` was kept: of an image read before 0.3 it was not.
    threshold
        Lowest score reported.
    scanner, station
        Manufacturer and model, Station Name.
    month
        Of the examination, as ``2026-11``.
    rule
        Name of the rule of the settings that applied.
    """

    sop_instance_uid: str
    status: ReadingStatus
    findings: int = 0
    reason: str | None = None
    found: tuple[FoundBox, ...] = ()
    reason_code: ReasonCode | None = None
    below: tuple[FoundBox, ...] = ()
    below_known: bool = Field(default=True, exclude=True, repr=False)
    threshold: float | None = None
    laterality: str | None = None
    view: str | None = None
    scanner: str | None = None
    station: str | None = None
    month: str | None = None
    rule: str | None = None

    @field_validator("reason_code", mode="before")
    @classmethod
    def _known(cls, code: str | None) -> ReasonCode | None:
        return None if code is None else known_code(code)


class ResultRecord(_Record):
    """One object that was made.

    Parameters
    ----------
    kind
        As in the settings of a destination.
    images
        SOP Instance UIDs of the mammograms that it is about.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str | None = None
    kind: str | None = None
    images: tuple[str, ...] = ()


class SendingRecord(_Record):
    """How the sending of one object to one destination stands, with the peer's own words when it refused it."""

    sop_instance_uid: str
    status: DeliveryStatus
    error: str | None = None


class DeliveryRecord(_Record):
    """How the sending of a report to one destination stands.

    Parameters
    ----------
    round
        Counted up when a person has it sent again.
    tries
        Associations that were tried in this round.
    waited_seconds
        Between them.
    errors
        Of the last try, each once.
    next_try_at, ended_at
        In UTC; ``None`` where there is none.
    objects
        What the destination is sent, in order.
    """

    destination: str
    status: DeliveryStatus = DeliveryStatus.PENDING
    round: int = 1
    tries: int = 0
    waited_seconds: float = 0.0
    next_try_at: datetime | None = None
    ended_at: datetime | None = None
    errors: tuple[str, ...] = ()
    objects: tuple[SendingRecord, ...] = ()


class ReadImageRecord(ImageRecord):
    """An image as of the last report that covers it.

    Parameters
    ----------
    algorithm
        Name and version of the model.
    """

    study: str
    made_at: datetime
    algorithm: str


class ReadingOrder(_Record):
    """A study that is to be read, once it is due.

    Parameters
    ----------
    arrivals
        Changes with every arrival, and when a person asks.
    attempt
        Number of the try that is next.
    received, waiting
        How many images there are, and how many of them no report covers.
    """

    study: str
    origin: Origin
    state: StudyState
    arrivals: int
    attempt: int
    last_received_at: datetime
    received: int
    waiting: int


class DeliveryOrder(_Record):
    """A delivery that is to be made, no sooner than its time."""

    study: str
    number: int
    destination: str
    round: int
    tries: int
    next_try_at: datetime | None
    origin: Origin


class Report(_Record):
    """One reading of a study as it was known then, and what became of its results.

    Parameters
    ----------
    supersedes
        Number of the report that this one replaces.
    waited_seconds
        From the last image to the beginning of the reading.
    problems
        What the results leave out, and why.
    absent_views
        Expected views, such as ``LMLO``, of which no image came.
    """

    number: int
    made_at: datetime
    algorithm: str
    seconds: float
    images: tuple[ImageRecord, ...]
    results: tuple[ResultRecord, ...]
    deliveries: tuple[DeliveryRecord, ...] = ()
    supersedes: int | None = None
    waited_seconds: float = 0.0
    problems: tuple[str, ...] = ()
    absent_views: tuple[str, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether a destination still waits for it."""
        return any(d.status is DeliveryStatus.PENDING for d in self.deliveries)


class Failure(_Record):
    """A try to read a study that gave no results; its images were put aside."""

    at: datetime
    reason: str
    images: tuple[str, ...]
    reason_code: ReasonCode | None = None

    @field_validator("reason_code", mode="before")
    @classmethod
    def _known(cls, code: str | None) -> ReasonCode | None:
        return None if code is None else known_code(code)


class StudyRecord(_Record):
    """What the node knows of one study.

    Parameters
    ----------
    reports, failures
        The last of them, and the last report that covers images: some ten, so that one Study Instance UID that goes on
        for ever fits into memory.
    images
        The latest reading of each image, by SOP Instance UID.
    earlier_reports, earlier_failures
        How many there were besides.
    arrivals
        As of `ReadingOrder`.
    """

    study_instance_uid: str
    state: StudyState
    origin: Origin
    first_received_at: datetime
    last_received_at: datetime
    objects: tuple[ObjectRecord, ...] = ()
    reports: tuple[Report, ...] = ()
    failures: tuple[Failure, ...] = ()
    images: tuple[ImageRecord, ...] = Field(default=(), exclude=True, repr=False)
    earlier_reports: int = 0
    earlier_failures: int = 0
    arrivals: int = Field(default=0, exclude=True, repr=False)

    @property
    def waiting(self) -> tuple[str, ...]:
        """SOP Instance UIDs of the images that no report covers yet."""
        return tuple(o.sop_instance_uid for o in self.objects if o.report is None and o.whereabouts is Whereabouts.KEPT)


class WorkerRecord(_Record):
    """A process that works, or did when it last said so.

    Parameters
    ----------
    beats
        Counted up every few seconds while it lives.
    """

    name: str
    host: str
    process: int
    started_at: datetime
    beat_at: datetime
    beats: int


class Counts(_Record):
    """How many studies and deliveries are in which state; without phantoms.

    Parameters
    ----------
    studies
        By state; every state is there.
    deliveries
        By destination, then by status; every status is there.
    """

    studies: dict[StudyState, int]
    deliveries: dict[str, dict[DeliveryStatus, int]]
