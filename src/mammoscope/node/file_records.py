"""`Records`: what was read, found and sent, one JSON file a study, without patients' names.

A record is also how the node knows what is done: an image is read when its study's record names it.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import structlog
from pydantic import BaseModel, Field, ValidationError

from mammoscope.findings import ReadingStatus
from mammoscope.node.disk import write_whole

log = structlog.get_logger(__name__)


class DeliveryStatus(StrEnum):
    """How far a report came on its way to one destination."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


class ImageRecord(BaseModel):
    """How the reading of one image ended."""

    sop_instance_uid: str
    status: ReadingStatus
    findings: int = 0
    reason: str | None = None


class ResultRecord(BaseModel):
    """One object that was made."""

    sop_class_uid: str
    sop_instance_uid: str


class DeliveryRecord(BaseModel):
    """How the sending of a report to one destination stands."""

    destination: str
    status: DeliveryStatus = DeliveryStatus.PENDING
    tries: int = 0
    errors: tuple[str, ...] = ()


class Report(BaseModel):
    """One reading of a study as it was known then, and what became of its results."""

    number: int
    made_at: datetime
    algorithm: str
    seconds: float
    images: tuple[ImageRecord, ...]
    results: tuple[ResultRecord, ...]
    deliveries: tuple[DeliveryRecord, ...]
    problems: tuple[str, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether a destination still waits for it."""
        return any(d.status is DeliveryStatus.PENDING for d in self.deliveries)


class Failure(BaseModel):
    """A try to read a study that gave no results; its images were put aside."""

    at: datetime
    reason: str
    images: tuple[str, ...]


class StudyRecord(BaseModel):
    """All that this node did with one study."""

    study_instance_uid: str
    reports: tuple[Report, ...] = ()
    failures: tuple[Failure, ...] = Field(default=())

    @property
    def images_read(self) -> frozenset[str]:
        """SOP Instance UIDs that a report covers."""
        return frozenset(image.sop_instance_uid for report in self.reports for image in report.images)

    @property
    def results_made(self) -> frozenset[str]:
        """SOP Instance UIDs of our own objects, which a PACS may well send back to us."""
        return frozenset(result.sop_instance_uid for report in self.reports for result in report.results)


class Records:
    """The records of all studies. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, study: str) -> StudyRecord:
        """Read the record of a study; an empty one if it has none.

        A damaged record is put aside and told in the log: reading a study twice is better than not at all.
        """
        path = self._path(study)
        with self._lock:
            try:
                return StudyRecord.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                return StudyRecord(study_instance_uid=study)
            except ValidationError:
                path.replace(path.with_suffix(".damaged"))
                log.warning("damaged record put aside", study=study)
                return StudyRecord(study_instance_uid=study)

    def update(self, study: str, change: Callable[[StudyRecord], StudyRecord]) -> StudyRecord:
        """Change a study's record; the new one is on disk when this returns."""
        with self._lock:
            record = change(self.load(study))
            write_whole(self._path(study), record.model_dump_json(indent=2) + "\n")
            return record

    def add_report(self, study: str, report: Report) -> StudyRecord:
        """Add a report to a study's record."""
        return self.update(study, lambda r: r.model_copy(update={"reports": (*r.reports, report)}))

    def add_failure(self, study: str, failure: Failure) -> StudyRecord:
        """Add a failure to a study's record."""
        return self.update(study, lambda r: r.model_copy(update={"failures": (*r.failures, failure)}))

    def set_delivery(self, study: str, number: int, delivery: DeliveryRecord) -> Report:
        """Note how a report's delivery to one destination ended; return the report as it stands now."""

        def change(record: StudyRecord) -> StudyRecord:
            reports = tuple(_with_delivery(r, delivery) if r.number == number else r for r in record.reports)
            return record.model_copy(update={"reports": reports})

        record = self.update(study, change)
        return next(report for report in record.reports if report.number == number)

    def knows(self, study: str, sop_instance: str) -> bool:
        """Whether an image was read, or an object made, in that study."""
        record = self.load(study)
        return sop_instance in record.images_read or sop_instance in record.results_made

    def _path(self, study: str) -> Path:
        return self._folder / f"{study}.json"


def _with_delivery(report: Report, delivery: DeliveryRecord) -> Report:
    deliveries = tuple(delivery if d.destination == delivery.destination else d for d in report.deliveries)
    return report.model_copy(update={"deliveries": deliveries})
