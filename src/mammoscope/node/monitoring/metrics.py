"""`Metrics`: what the node did and how it stands, for Prometheus. A phantom is not counted among patients.

How the node stands, from its database and its disk: for metrics and for ``mammoscope node status``.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mammoscope import __version__
from mammoscope.logging import where_raised
from mammoscope.node.db.repository import Records, WorkerRecord
from mammoscope.node.events import (
    AssociationRefused,
    Event,
    ImageRead,
    NodeStarted,
    ObjectReceived,
    Origin,
    ReportParked,
    ReportSent,
    SendingFailed,
    StudyFailed,
    StudyPutOff,
    StudyRead,
)
from mammoscope.node.monitoring.phantom_check import LastRound
from mammoscope.node.retrieve.archives import tls_of
from mammoscope.reasons import ReasonCode
from mammoscope.settings import NodeSettings

MOST_VALUES = 50
"""Of one label; what comes later is counted as `OTHER`, so that no sender can fill the memory."""
OTHER = "other"

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
"""Limits of the histograms of durations: from an image read to a destination that was down for a day."""
FINDINGS = (0, 1, 2, 3, 5, 10)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PhantomState:
    """The last round of the phantom.

    Parameters
    ----------
    at
        When it was sent.
    came_round
        Whether its results came back in time.
    hops
        Seconds each part of the way took.
    """

    at: datetime
    came_round: bool
    hops: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeState:
    """How the node stands at one moment.

    Parameters
    ----------
    studies
        Patients' studies by state.
    deliveries
        Reports by destination, and of each by status.
    workers
        Processes that were heard of lately.
    free_bytes
        Of the disk that the storage folder lies on.
    phantom
        ``None`` before the first round.
    certificate_expires
        ``None`` without TLS.
    """

    studies: Mapping[str, int]
    deliveries: Mapping[str, Mapping[str, int]]
    workers: int
    free_bytes: int
    phantom: PhantomState | None = None
    certificate_expires: datetime | None = None


class Metrics:
    """A listener that counts events, and the page that Prometheus reads.

    Parameters
    ----------
    state
        Asked for at each reading of the page.
    """

    def __init__(self, state: Callable[[], NodeState]) -> None:
        self.registry = CollectorRegistry()
        self._labels: dict[str, set[str]] = {}
        self._count = _Counters(self.registry)
        self.registry.register(_StateCollector(state))

    def __call__(self, event: Event) -> None:
        """Count an event."""
        if getattr(event, "origin", None) is Origin.PHANTOM:
            return
        match event:
            case NodeStarted():
                self._count.started.labels(event.version, event.algorithm).inc()
            case AssociationRefused():
                self._count.refused.inc(event.times)
            case ObjectReceived():
                self._count.objects.labels(event.outcome, event.origin).inc()
            case ImageRead():
                self._image(event)
            case StudyRead():
                self._count.studies.labels(event.origin).inc()
                for view in event.absent_views:
                    self._count.absent_views.labels(view).inc()
                self._count.hops.labels("wait").observe(event.waited_seconds)
                self._count.hops.labels("read").observe(event.seconds)
            case StudyFailed():
                self._count.failed.labels(event.reason_code).inc()
            case StudyPutOff():
                self._count.put_off.labels(event.part).inc()
            case SendingFailed():
                self._count.failures.labels(event.destination).inc()
            case ReportSent():
                self._count.sent.labels(event.destination).inc()
                self._count.hops.labels("send").observe(event.seconds)
            case ReportParked():
                self._count.parked.labels(event.destination).inc()

    def page(self) -> bytes:
        """Render the page in Prometheus' text format."""
        return generate_latest(self.registry)

    def _image(self, event: ImageRead) -> None:
        if event.reason is not None:
            self._count.not_processed.labels(event.reason_code or ReasonCode.OTHER).inc()
            return
        self._count.findings.labels(self._bounded("scanner", event.scanner)).observe(event.findings)
        self._count.images.observe(event.seconds)

    def _bounded(self, label: str, value: str) -> str:
        known = self._labels.setdefault(label, set())
        if value not in known and len(known) >= MOST_VALUES:
            return OTHER
        known.add(value)
        return value


class _Counters:
    """What is counted from events."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(f"mammoscope_{name}", help_text, labels, registry=registry)

        def histogram(name: str, help_text: str, limits: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"mammoscope_{name}", help_text, labels, buckets=limits, registry=registry)

        self.started = counter("starts", "Starts of the node in this process.", "version", "model")
        self.refused = counter("associations_refused", "Associations and connections that were not let in.")
        self.objects = counter("objects_received", "Objects that arrived, by what became of them.", "outcome", "origin")
        self.studies = counter("reports_made", "Reports made of patients' studies.", "origin")
        self.failed = counter("studies_failed", "Tries to read a study that gave no results.", "reason")
        self.put_off = counter("studies_put_off", "Tries to read a study that the machine's trouble ended.", "part")
        self.not_processed = counter("images_not_processed", "Images that were not processed, by reason.", "reason")
        self.absent_views = counter("expected_views_absent", "Reports of studies without an expected view.", "view")
        self.sent = counter("reports_sent", "Reports that a destination has.", "destination")
        self.failures = counter("sending_failures", "Tries to send a report that failed.", "destination")
        self.parked = counter("reports_parked", "Reports put aside for a person.", "destination")
        self.hops = histogram("hop_seconds", "Seconds of a study at each hop: wait, read, send.", SECONDS, "hop")
        self.images = histogram("image_seconds", "Seconds of reading one image.", SECONDS)
        for code in ReasonCode:  # a counter that begins at 1 is no increase to Prometheus
            self.not_processed.labels(code)
            self.failed.labels(code)
        self.findings = histogram("findings_per_image", "Findings of an image, by scanner.", FINDINGS, "scanner")


class _StateCollector(Collector):
    """How the node stands when the page is read."""

    def __init__(self, state: Callable[[], NodeState]) -> None:
        self._state = state

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield _family("build_info", "Version of Mammoscope.", [((__version__,), 1.0)], "version")
        try:
            state = self._state()
        except Exception as error:  # the counters are still worth reading
            log.warning("state not known", error=where_raised(error))
            yield _gauge("state_known", "Whether database and disk answered.", 0.0)
            return
        yield _gauge("state_known", "Whether database and disk answered.", 1.0)
        studies = [((name,), count) for name, count in state.studies.items()]
        yield _family("studies", "Patients' studies by state.", studies, "state")
        deliveries = [((d, s), count) for d, counts in state.deliveries.items() for s, count in counts.items()]
        yield _family("deliveries", "Reports by destination and status.", deliveries, "destination", "status")
        yield _gauge("workers_alive", "Processes that read studies and were heard of lately.", state.workers)
        yield _gauge("disk_free_bytes", "Free bytes of the storage folder's disk.", state.free_bytes)
        if state.certificate_expires is not None:
            expires = state.certificate_expires.timestamp()
            yield _gauge("certificate_expires_timestamp_seconds", "When our certificate ends.", expires)
        if state.phantom is not None:
            yield from _phantom(state.phantom)


def _phantom(phantom: PhantomState) -> Iterator[GaugeMetricFamily]:
    yield _gauge("phantom_came_round", "Whether the last phantom came back in time.", phantom.came_round)
    yield _gauge("phantom_sent_timestamp_seconds", "When the last phantom was sent.", phantom.at.timestamp())
    hops = [((hop,), seconds) for hop, seconds in phantom.hops.items()]
    yield _family("phantom_hop_seconds", "Seconds of the last phantom at each hop.", hops, "hop")


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return _family(name, help_text, [((), value)])


def _family(
    name: str, help_text: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"mammoscope_{name}", help_text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, float(value))
    return family


WORKER_SILENT_SECONDS = 60.0
"""A worker that said nothing for so long counts as dead."""


def read_state(settings: NodeSettings, records: Records) -> NodeState:
    """Ask the database and the disk; works beside a running node.

    Raises
    ------
    OSError, sqlalchemy.exc.SQLAlchemyError
        If they do not answer.
    """
    counts, tls = records.counts(), tls_of(settings)
    deliveries = {destination.name: dict.fromkeys(("pending", "parked"), 0) for destination in settings.destinations}
    for name, by_status in counts.deliveries.items():
        deliveries[name] = {str(status): count for status, count in by_status.items()}
    return NodeState(
        studies={str(state): count for state, count in counts.studies.items()},
        deliveries=deliveries,
        workers=sum(is_alive(worker) for worker in records.workers()),
        free_bytes=shutil.disk_usage(settings.node.storage).free,
        phantom=_phantom_state(settings.node.storage) if settings.health else None,
        certificate_expires=tls.expires_at() if tls else None,
    )


def is_alive(worker: WorkerRecord) -> bool:
    """Whether a worker was heard of lately, by this machine's clock."""
    return abs(datetime.now(UTC) - worker.beat_at) < timedelta(seconds=WORKER_SILENT_SECONDS)


def _phantom_state(storage: Path) -> PhantomState | None:
    last = LastRound(storage).load()
    return PhantomState(last.at, last.came_round, last.hops) if last else None
