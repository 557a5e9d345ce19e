"""What the store tells of studies, images and reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from mammoscope.imaging import Laterality, View
from mammoscope.review.store.marks import Mark, Origin


class Progress(StrEnum):
    """How far the readers of a study are."""

    UNREAD = "unread"
    READING = "reading"
    DEFERRED = "deferred"
    READ_ONCE = "read once"
    """The first reader is done, and a second is wanted."""
    DISPUTED = "disputed"
    """Two readers differ, and nobody has settled it."""
    READ = "read"
    SETTLED = "settled"


class Place(StrEnum):
    """As what somebody reads a study; each place is taken once."""

    FIRST = "first"
    SECOND = "second"
    ARBITER = "arbiter"


class ReadState(StrEnum):
    """How far one reader is."""

    OPEN = "open"
    DEFERRED = "deferred"
    DONE = "done"


class Opinion(StrEnum):
    """What a reader says of a study as a whole, in the words of breast screening."""

    NORMAL = "normal"
    """Nothing to follow up."""
    RECALL = "recall"
    """To be assessed further."""
    TECHNICAL_RECALL = "technical recall"
    """To be taken again: the images are not good enough to read."""


@dataclass(frozen=True, slots=True)
class ProposedBox:
    """A box that a source brings."""

    origin: Origin
    edges: tuple[float, float, float, float]
    label: str
    score: float | None = None
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image that a source brings.

    Parameters
    ----------
    key
        SOP Instance UID, or the name within a data set's images.
    reason
        One sentence if the model did not read it.
    """

    key: str
    path: Path
    laterality: Laterality | None = None
    view: View | None = None
    rows: int | None = None
    columns: int | None = None
    proposals: tuple[ProposedBox, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SourceStudy:
    """A study that a source brings.

    Parameters
    ----------
    patient
        What a reader knows the patient by; empty where the source does not, or no longer, know it.
    version
        Changes whenever anything else does.
    destinations
        Where its last report goes, and how far that is there.
    """

    key: str
    patient: str
    came_at: datetime
    images: tuple[SourceImage, ...]
    version: str
    state: str = "done"
    reason: str | None = None
    patient_name: str = ""
    taken_on: str = ""
    scanner: str = ""
    destinations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study in the worklist."""

    id: int
    key: str
    patient: str
    patient_name: str
    taken_on: str
    scanner: str
    state: str
    reason: str | None
    came_at: datetime
    images: int
    findings: int
    highest: float | None
    progress: Progress
    gone: bool
    destinations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image of a study."""

    id: int
    study: int
    key: str
    path: Path
    laterality: str | None
    view: str | None
    rows: int | None
    columns: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What figures of all images are made of.

    Parameters
    ----------
    statistics
        Highest score, mean grey, contrast, breast share; ``None`` where one is not known.
    annotated
        Boxes of a data set that were there before anybody read here.
    """

    scanner: str
    month: str
    findings: int
    statistics: tuple[float | None, float | None, float | None, float | None]
    annotated: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """One reader's reading of one study.

    Parameters
    ----------
    opinion
        ``None`` until it is done.
    """

    study: int
    place: Place
    reader: str
    state: ReadState
    began_at: datetime
    ended_at: datetime | None = None
    opinion: Opinion | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """What a reader had sent to the PACS.

    Parameters
    ----------
    report
        Number of the node's report.
    objects
        How many there were.
    """

    report: int
    reader: str
    at: datetime
    objects: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of it at one destination.

    Parameters
    ----------
    status
        ``pending``, ``sent`` (accepted), ``parked`` (given up) or ``withheld`` (shadow mode).
    at
        When it was accepted or given up.
    reason
        In the destination's own words, where it did not accept it.
    """

    destination: str
    status: str
    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a reader had sent, and what became of it at each destination."""

    sending: Sending
    arrivals: tuple[Arrival, ...]

    @property
    def waiting(self) -> bool:
        """Whether a destination has not answered yet."""
        return any(arrival.status == "pending" for arrival in self.arrivals)


@dataclass(frozen=True, slots=True)
class Worklist:
    """One page of the worklist, and how many studies there are on all."""

    rows: tuple[StudyRow, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Truth:
    """What the readers of a study came to.

    Parameters
    ----------
    readers
        Whose boxes they are; empty while the study is not read.
    marks
        By image id, accepted and rejected.
    """

    progress: Progress
    readers: tuple[str, ...] = ()
    marks: Mapping[int, tuple[Mark, ...]] = field(default_factory=dict)
