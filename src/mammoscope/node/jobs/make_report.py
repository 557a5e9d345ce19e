"""`Reporter`: a study's readings as result objects in the outbox and a report in the records."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog

from mammoscope.findings import Algorithm, Finding, Reading
from mammoscope.imaging import attributes
from mammoscope.network import REPORTED_SOP_CLASSES
from mammoscope.node.db.repository import (
    Attempt,
    DeliveryRecord,
    DeliveryStatus,
    FoundBox,
    ImageRecord,
    Records,
    Report,
    ResultRecord,
    SendingRecord,
    StudyRecord,
)
from mammoscope.node.events import Event, Origin, StudyRead
from mammoscope.node.jobs.routing import UNKNOWN, Route
from mammoscope.node.storage.outbox import Outbox
from mammoscope.results import ReadMammogram, ResultError, ResultReference, StudyResults, absent_view_sentence
from mammoscope.settings import DestinationSettings, ResultKind
from mammoscope.settings.schema import DEFAULT_RESULTS

log = structlog.get_logger(__name__)


MOST_PICTURED = 24
"""Images of one study that get a picture each, of some megabytes."""
LONGEST_SCANNER = 64
LONGEST_STATION = 32
"""Characters. What comes over the network may be of any length."""
PICTURES = frozenset((ResultKind.IMAGE_CAPTURE, ResultKind.COLOUR_IMAGE_CAPTURE))


class MakeResults(Protocol):
    """`mammoscope.results.study_results` is one."""

    def __call__(
        self,
        images: Sequence[ReadMammogram],
        algorithm: Algorithm,
        *,
        kinds: Sequence[ResultKind],
        supersedes: Sequence[ResultReference],
        absent_views: Sequence[str],
    ) -> StudyResults:
        """Make the result objects of one study."""


class Reporter:
    """Makes reports.

    Parameters
    ----------
    route_of
        Who takes the results of a study, by its record and the rule that applies to each of its images.
    shadow
        Whether they are made but sent to no one.
    expected_views
        Views that a study should have, such as ``LMLO``; those that did not come are named in its results.
    """

    def __init__(
        self,
        records: Records,
        outbox: Outbox,
        algorithm: Algorithm,
        make_results: MakeResults,
        route_of: Callable[[StudyRecord, Sequence[str | None]], Route],
        on_event: Callable[[Event], None],
        *,
        shadow: bool,
        expected_views: Collection[str] = (),
    ) -> None:
        self._records = records
        self._outbox = outbox
        self._algorithm = algorithm
        self._make_results = make_results
        self._route_of = route_of
        self._on_event = on_event
        self._shadow = shadow
        self._expected_views = expected_views

    def report(
        self,
        study: str,
        outcomes: Sequence[ReadMammogram | Reading],
        *,
        attempt: Attempt,
        digests: Mapping[str, str],
        reading_seconds: float,
        waited_seconds: float,
        rules: Mapping[str, str | None] | None = None,
        read_again: bool = False,
    ) -> None:
        """Make a study's next report: first the objects, on the disk, then the record of them, which ends the attempt.

        Parameters
        ----------
        rules
            For each image that was looked at the name of the rule that applies, if one does.
        read_again
            Whether the study is to be read again as soon as there is time.

        Raises
        ------
        ResultError
            If no object can be made.
        OSError, MemoryError
            If they cannot be made now, or not be written.
        """
        started = time.monotonic()
        record = self._records.study(study)
        assert record is not None, "its images are recorded"
        rules = rules or {}
        route = self._route_of(record, list(rules.values()))
        destinations = route.destinations
        kinds = tuple(dict.fromkeys(kind for d in destinations for kind in d.results)) or DEFAULT_RESULTS
        images = [outcome for outcome in outcomes if isinstance(outcome, ReadMammogram)]
        if outcomes and not images:
            raise ResultError(
                f"no object can refer to any of {len(outcomes)} images; the first: {_reason(outcomes[0])}"
            )
        problems = [*_left_out(outcomes, images), *route.problems]
        if len(images) > MOST_PICTURED and not PICTURES.isdisjoint(kinds):
            kinds = tuple(kind for kind in kinds if kind not in PICTURES) or DEFAULT_RESULTS
            problems.append(f"Of {len(images)} images none gets a picture of its own; {MOST_PICTURED} would.")
        absent = absent_views(images, self._expected_views)
        results = self._make_results(
            images,
            self._algorithm,
            kinds=kinds,
            supersedes=_references(record, self._records.series_began(study)),
            absent_views=absent,
        )
        told = {absent_view_sentence(view) for view in absent}
        problems.extend(problem for problem in results.problems if problem not in told)
        number = max((report.number for report in record.reports), default=0) + 1
        self._outbox.put(study, number, results.objects)
        report = Report(
            number=number,
            supersedes=record.reports[-1].number if record.reports else None,
            made_at=datetime.now(UTC),
            algorithm=f"{self._algorithm.name} {self._algorithm.version}",
            seconds=round(reading_seconds + time.monotonic() - started, 3),
            waited_seconds=round(waited_seconds, 3),
            images=tuple(_image(outcome, rules) for outcome in outcomes),
            results=tuple(_result(result.reference) for result in results.results),
            problems=tuple(problems),
            absent_views=absent,
            deliveries=tuple(self._delivery(record, destination, results) for destination in destinations),
        )
        if self._records.add_report(study, report, digests=digests, attempt=attempt, read_again=read_again):
            self._tell(record, report)

    def _delivery(self, record: StudyRecord, destination: DestinationSettings, results: StudyResults) -> DeliveryRecord:
        withheld = self._shadow and record.origin is not Origin.PHANTOM
        status = DeliveryStatus.WITHHELD if withheld else DeliveryStatus.PENDING
        uids = (result.reference.sop_instance for result in results.of(destination.results))
        objects = tuple(SendingRecord(sop_instance_uid=uid, status=status) for uid in uids)
        return DeliveryRecord(destination=destination.name, status=status, objects=objects)

    def _tell(self, record: StudyRecord, report: Report) -> None:
        study, views = record.study_instance_uid, ", ".join(report.absent_views)
        for problem in report.problems:
            log.error("result incomplete", study=study, report=report.number, reason=problem)
        if views:
            log.warning("expected views absent", study=study, report=report.number, views=views)
        self._on_event(
            StudyRead(
                study=record.study_instance_uid,
                report=report.number,
                images=len(report.images),
                findings=sum(image.findings for image in report.images),
                not_processed=sum(image.reason is not None for image in report.images),
                seconds=report.seconds,
                waited_seconds=report.waited_seconds,
                supersedes=report.supersedes,
                absent_views=report.absent_views,
                origin=record.origin,
            )
        )


def absent_views(images: Sequence[ReadMammogram], expected: Collection[str]) -> tuple[str, ...]:
    """The expected views, such as ``LMLO``, of which a study has no two-dimensional image, read or not."""
    there = {
        f"{image.laterality}{image.view}"
        for image in images
        if image.laterality and image.view and _sop_class(image) not in REPORTED_SOP_CLASSES
    }
    return tuple(view for view in expected if view not in there)


def _sop_class(image: ReadMammogram) -> str:
    header = image.mammogram.header
    return "" if header is None else str(header.get("SOPClassUID", ""))


def _reason(outcome: ReadMammogram | Reading) -> str | None:
    return (outcome.reading if isinstance(outcome, ReadMammogram) else outcome).reason


def _left_out(outcomes: Sequence[ReadMammogram | Reading], images: Sequence[ReadMammogram]) -> list[str]:
    missing = len(outcomes) - len(images)
    return [f"{missing} of {len(outcomes)} images are in no result."] if images and missing else []


def _references(record: StudyRecord, series_began: Mapping[str, datetime]) -> tuple[ResultReference, ...]:
    """The objects that a new report of the study replaces, each dated by when its series began."""
    if not record.reports:
        return ()
    return tuple(
        ResultReference(
            ResultKind(result.kind),
            record.study_instance_uid,
            result.series_instance_uid,
            result.sop_class_uid,
            result.sop_instance_uid,
            result.images,
            series_began[result.series_instance_uid].astimezone().date(),
        )
        for result in record.reports[-1].results
        if result.kind is not None and result.series_instance_uid is not None
    )


def scanner_of(outcome: ReadMammogram | Reading) -> str | None:
    """Manufacturer and model, as the image says it, fit for a log and for a label of the metrics."""
    return _said(outcome, "Manufacturer", "ManufacturerModelName", longest=LONGEST_SCANNER)


def _station_of(outcome: ReadMammogram | Reading) -> str | None:
    return _said(outcome, "StationName", longest=LONGEST_STATION)


def _month_of(outcome: ReadMammogram | Reading) -> str | None:
    """Month of the examination, as ``2026-11``."""
    date_of = _said(outcome, "StudyDate", longest=8) or _said(outcome, "AcquisitionDate", longest=8) or ""
    return f"{date_of[:4]}-{date_of[4:6]}" if len(date_of) == 8 and date_of.isascii() and date_of.isdigit() else None


def _said(outcome: ReadMammogram | Reading, *keywords: str, longest: int) -> str | None:
    header = outcome.mammogram.header if isinstance(outcome, ReadMammogram) else None
    if header is None:
        return None
    words = " ".join(filter(None, (attributes.text(header, keyword) for keyword in keywords)))
    return "".join(c for c in words if c.isprintable())[:longest].strip() or None


def _boxes(findings: Sequence[Finding]) -> tuple[FoundBox, ...]:
    return tuple((*finding.box.as_tuple(), finding.score, finding.label) for finding in findings)


def _image(outcome: ReadMammogram | Reading, rules: Mapping[str, str | None]) -> ImageRecord:
    reading = outcome.reading if isinstance(outcome, ReadMammogram) else outcome
    rule = rules.get(reading.name)
    return ImageRecord(
        sop_instance_uid=reading.name,
        status=reading.status,
        findings=len(reading.findings),
        reason=reading.reason,
        reason_code=reading.reason_code,
        found=_boxes(reading.findings),
        below=_boxes(reading.below_threshold),
        threshold=reading.threshold,
        laterality=reading.laterality and str(reading.laterality),
        view=reading.view and str(reading.view),
        scanner=scanner_of(outcome),
        station=_station_of(outcome),
        month=_month_of(outcome),
        rule=None if rule == UNKNOWN else rule,
    )


def _result(reference: ResultReference) -> ResultRecord:
    return ResultRecord(
        sop_class_uid=reference.sop_class,
        sop_instance_uid=reference.sop_instance,
        series_instance_uid=reference.series,
        kind=str(reference.kind),
        images=reference.images,
    )
