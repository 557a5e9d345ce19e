"""`Worker`: reads studies and sends reports; as many as you like share the work through one database.

Keeping the memory of a process that runs for months flat.
"""

import ctypes
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

import structlog
from pydicom import Dataset

from mammoscope.errors import MammoscopeError
from mammoscope.imaging import MammogramReader, PresentationIntent, read_mammogram_header
from mammoscope.imaging.eligibility import expected_views_present
from mammoscope.network import CommitmentReports
from mammoscope.node.db.repository import DeliveryOrder, Records, StudyRecord
from mammoscope.node.events import Announcer, ImagesRemoved, Listener, Origin, log_event
from mammoscope.node.jobs.deliver_report import DeliveryWork, confirmer_for, sender_for
from mammoscope.node.jobs.heartbeat import Heartbeat
from mammoscope.node.jobs.make_report import MakeResults, Reporter
from mammoscope.node.jobs.queue import DurableWork
from mammoscope.node.jobs.read_study import StudyWork
from mammoscope.node.jobs.routing import Route, Routing
from mammoscope.node.jobs.scheduler import (
    ORPHANS_QUEUE,
    READING_QUEUE,
    RECONCILE_EVERY_SECONDS,
    Scheduler,
    sending_queue,
)
from mammoscope.node.jobs.study_completion import StudyTracker
from mammoscope.node.jobs.trial import survives
from mammoscope.node.monitoring.phantom_check import PHANTOM_RECEIVER
from mammoscope.node.storage.inbox import Inbox
from mammoscope.node.storage.outbox import Outbox
from mammoscope.reading import ImageReader, MammogramDetector
from mammoscope.results import study_results
from mammoscope.settings import DestinationSettings, NodeSettings

ARENA_MAX, MMAP_THRESHOLD = -8, -3
"""Of mallopt in glibc's malloc.h."""
ARENAS = 2
LARGE_BYTES = 256 * 1024


def keep_memory_flat() -> None:
    """Have the C library give large pieces back as soon as they are freed; nothing where it is not glibc.

    Left to itself it keeps a heap for each of the first threads, and takes ever larger pieces from them, which then lie
    between small ones and cannot be given back: 370 MB instead of 270 after 40 small studies.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(ARENA_MAX, ARENAS)
        mallopt(MMAP_THRESHOLD, LARGE_BYTES)


STOP_WAIT_SECONDS = 60.0
SENDERS_AT_ONCE = 2
MOST_HEADERS = 64
"""Images of which the attributes are kept, to tell whether a study is complete."""

log = structlog.get_logger(__name__)


def helper_name() -> str:
    """A name for a worker beside the one that receives: of this process alone."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


class Worker:
    """Does the work of a node: reads studies, sends reports, puts away what is over.

    Parameters
    ----------
    name
        No other worker's that runs at the same time. What one of this name left undone is resumed at the start.
    detector
        Reads one mammogram.
    at_once
        How many studies are read at once.
    intents
        What the detector reads.
    make_results
        Makes a study's result objects.
    listeners
        Told of each event, after the log.
    phantom_destination
        Who takes the results of phantom studies, and of no other.
    receives
        Whether images arrive in this process; it puts away what is over.
    commitment
        Storage commitment as it is reported on our own port. A worker without one leaves destinations that are asked
        for it to one that has.
    make_heartbeat
        Makes what says that we live and who died.
    reconcile_every_seconds
        How often records, durable work and work in hand are reconciled.

    Raises
    ------
    DatabaseError
        If the database cannot be used.
    """

    def __init__(
        self,
        settings: NodeSettings,
        detector: MammogramDetector,
        name: str,
        *,
        at_once: int = 1,
        intents: Collection[PresentationIntent] = tuple(PresentationIntent),
        make_results: MakeResults = study_results,
        listeners: Sequence[Listener] = (),
        phantom_destination: DestinationSettings | None = None,
        receives: bool = False,
        commitment: CommitmentReports | None = None,
        make_heartbeat: Callable[[DurableWork, Records], Heartbeat] = Heartbeat,
        reconcile_every_seconds: float = RECONCILE_EVERY_SECONDS,
    ) -> None:
        keep_memory_flat()
        node, storage = settings.node, settings.node.storage
        database = node.database.get_secret_value() if node.database is not None else None
        self._settings = settings
        self._phantom_destination = phantom_destination
        self._intents = tuple(intents)
        self._open = ExitStack()
        self._stopping = threading.Event()
        self.announce = Announcer(log_event, *listeners)
        self.records = Records.open(storage, database)
        self.inbox = Inbox(storage / "inbox", self.records.knows)
        self._outbox = Outbox(storage / "outbox", name)
        self._mammograms = MammogramReader(at_once)
        self._headers: dict[Path, Dataset] = {}
        pictures = storage / "pictures" / name
        shutil.rmtree(pictures, ignore_errors=True)  # of what an end cut short
        self._routing = Routing(settings.rules, settings.destinations)
        tracker = StudyTracker(node.quiet_seconds, node.answer_minutes * 60)
        self._work = DurableWork(name, storage, database)
        self._heartbeat = make_heartbeat(self._work, self.records)
        self._reading = StudyWork(
            self._work,
            self.records,
            self.inbox,
            ImageReader(
                detector,
                self._mammograms,
                settings.model.threshold,
                intents,
                pictures,
                two_views=settings.model.two_views,
            ),
            Reporter(
                self.records,
                self._outbox,
                detector.algorithm,
                make_results,
                self._route_of,
                self.announce,
                shadow=node.shadow,
                expected_views=node.expected_views,
            ),
            tracker,
            storage / "failed",
            node.answer_minutes,
            self.announce,
            self._stopping,
            partial(survives, bundle=settings.model.bundle),
            self._routing,
            self._header,
        )
        destinations = [*settings.destinations, *([phantom_destination] if phantom_destination else [])]
        asking = [(d.name, confirmer_for(d, settings, commitment)) for d in destinations if commitment is not None]
        self._confirms = {name: confirm for name, confirm in asking if confirm is not None}
        DeliveryWork(
            self._work,
            self.records,
            self._outbox,
            {destination.name: sender_for(destination, settings) for destination in destinations},
            self._confirms,
            {destination.name: destination.retry_hours * 3600 for destination in destinations},
            self.announce,
            self._heartbeat.claim,
        )
        names = [destination.name for destination in destinations]
        self._unconfirmed = {d.name for d in destinations if d.commitment} - self._confirms.keys()
        self._queues = {READING_QUEUE: at_once, ORPHANS_QUEUE: 1} | {
            sending_queue(name): SENDERS_AT_ONCE for name in names
        }
        self._scheduler = Scheduler(
            self._work,
            self.records,
            tracker,
            at_once=at_once,
            is_complete=self._is_complete,
            destinations=names,
            may_send=self._may_send,
            # Only who receives knows of an image that is just arriving where others are deleted.
            tidy=self._tidy if receives else lambda: None,
            reconcile_every_seconds=reconcile_every_seconds,
        )

    @property
    def stopping(self) -> bool:
        """Whether it is about to stop."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Resume what was left undone, and work.

        Raises
        ------
        ServiceError
            If this process works already, or the database cannot be used.
        """
        with ExitStack() as undo:
            undo.callback(self.records.close)
            undo.callback(self._mammograms.close)
            self._work.start(self._queues)
            undo.callback(self._work.stop, STOP_WAIT_SECONDS)
            self._heartbeat.start()
            undo.callback(self._heartbeat.stop)
            self._scheduler.start()
            undo.callback(self._scheduler.stop)
            undo.callback(self._stopping.set)
            self._open = undo.pop_all()

    def stop(self) -> None:
        """Finish the image and the deliveries under way; the rest is resumed at the next start or by another worker."""
        self._open.close()

    def __enter__(self) -> Self:
        self.start()
        log.info("worker started", worker=self._work.worker)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        log.info("worker stopped", worker=self._work.worker)

    def wake(self) -> None:
        """See at once what is new."""
        self._scheduler.wake()

    def reading_trouble(self) -> str | None:
        """What of the machine keeps studies from being read now, in one sentence; ``None`` when nothing does."""
        return self._reading.trouble

    def work_trouble(self) -> str | None:
        """Why nothing is handed out to be read or sent, in one sentence; ``None`` while it is."""
        return self._scheduler.trouble

    def forget(self, study: str) -> None:
        """Delete all that is kept of a study, files and records, for example of a phantom."""
        record = self.records.study(study)
        for number in range(1, record.reports[-1].number + 1 if record and record.reports else 1):
            self._outbox.discard(study, number)
        if self.inbox.images(study):
            self.inbox.remove(study, only_if=lambda _: True)
        self.records.forget(study)

    def _route_of(self, record: StudyRecord, rules: Sequence[str | None]) -> Route:
        if record.origin is Origin.PHANTOM:
            # A helper has none itself; by the name, the node sends what the helper made.
            return Route((self._phantom_destination or PHANTOM_RECEIVER,))
        return self._routing.route(rules, {received.peer for received in record.objects})

    def _may_send(self, order: DeliveryOrder) -> bool:
        if order.origin is Origin.PHANTOM:  # back to the process that sent it, which alone knows where it listens
            return self._phantom_destination is not None
        return not self._settings.node.shadow and order.destination not in self._unconfirmed

    def _is_complete(self, study: str) -> bool:
        expected = self._settings.node.expected_views
        files = self.inbox.images(study)
        if not len(expected) <= len(files) <= MOST_HEADERS or not expected:
            return False  # of more than any examination has, silence tells
        try:
            headers = [self._header(file) for file in files]
            return expected_views_present(headers, expected, self._intents)
        except MammoscopeError:  # a damaged header: when it is quiet, reading it will say what is wrong
            return False

    def _header(self, file: Path) -> Dataset:
        """The attributes of an image, read once in a process of its own."""
        if file not in self._headers:
            while len(self._headers) >= MOST_HEADERS:
                del self._headers[next(iter(self._headers))]
            self._headers[file] = read_mammogram_header(file)
        return self._headers[file]

    def _tidy(self) -> None:
        """Delete images and results that were read and sent long enough ago; the records stay."""
        before = datetime.now(UTC) - timedelta(hours=self._settings.node.keep_images_hours)
        for study in self.records.studies_to_clear(before):
            covered = self.records.covered_images(study)
            count = len(self.inbox.images(study))
            if self.inbox.remove(study, only_if=partial(_all_in, covered)):
                self.records.images_removed(study)
                self.announce(ImagesRemoved(study=study, images=count))
        for study, number in self.records.reports_to_clear(before):
            self._outbox.discard(study, number)
            self.records.report_cleared(study, number)


def _all_in(covered: frozenset[str], files: Sequence[Path]) -> bool:
    return all(file.stem in covered for file in files)
