"""`Node`: wires receiving, assembling, reading and sending, and puts right at start what an end left undone."""

import fcntl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Self

import structlog

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm
from mammoscope.imaging import MammogramReader
from mammoscope.network import Destination, Receipt, ReceivedObject, ServiceError, StorageClient, StorageService
from mammoscope.node.assembly import StudyTracker
from mammoscope.node.delivery import Courier, Delivery, Outbox, Parcel
from mammoscope.node.file_records import (
    DeliveryRecord,
    DeliveryStatus,
    Failure,
    ImageRecord,
    Records,
    Report,
    ResultRecord,
)
from mammoscope.node.inbox import Inbox
from mammoscope.node.log import where_raised
from mammoscope.node.reading import MammogramDetector, ReadingInterruptedError, StudyReader, StudyReading
from mammoscope.results import ReadMammogram, StudyResults, study_results
from mammoscope.settings import DestinationSettings, NodeSettings

TIDY_EVERY_SECONDS = 60.0
DISK_TROUBLE_WAIT_SECONDS = 60.0
STOP_WAIT_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Node:
    """One DICOM node beside a PACS: receives studies, reads each when it is quiet, sends the results.

    Everything it has promised lies on disk under the storage folder: ``inbox`` (images), ``outbox`` (results not yet
    delivered), ``records`` (what was done), ``failed`` (what needs a person), ``incoming`` (objects on their way in).
    Whenever the process ends, the next start goes on from there.

    Parameters
    ----------
    detector
        Reads one mammogram.
    make_results
        Makes a study's result objects.

    Examples
    --------
    >>> with Node(settings, detector) as node:  # doctest: +SKIP
    ...     print(node.port)
    """

    def __init__(
        self,
        settings: NodeSettings,
        detector: MammogramDetector,
        *,
        make_results: Callable[[Sequence[ReadMammogram], Algorithm], StudyResults] = study_results,
    ) -> None:
        self._settings = settings
        self._detector = detector
        self._make_results = make_results
        self._storage = settings.node.storage
        self._open = ExitStack()
        self._stopping = threading.Event()
        self._wake = threading.Event()

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._service.port

    def start(self) -> None:
        """Take the storage folder, resume what lies there, and listen.

        Raises
        ------
        ServiceError
            If the storage folder cannot be used, another node uses it, or the address cannot be listened on.
        """
        with ExitStack() as undo:
            self._take_storage(undo)
            self._set_up(undo)
            self._resume()
            for courier in self._couriers:
                courier.start()
                undo.callback(courier.stop)
            worker = threading.Thread(target=self._work, name="reader", daemon=True)
            worker.start()
            undo.callback(worker.join, STOP_WAIT_SECONDS)
            undo.callback(self._stop_working)
            self._service.start()
            undo.callback(self._service.stop)
            self._open = undo.pop_all()
        node = self._settings.node
        log.info("node started", ae_title=node.ae_title, host=node.host, port=self.port)

    def stop(self) -> None:
        """Take nothing new, finish the image and the parcels in hand, leave the rest on disk for the next start."""
        self._open.close()
        log.info("node stopped")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _take_storage(self, undo: ExitStack) -> None:
        try:
            self._storage.mkdir(parents=True, exist_ok=True)
            lock: IO[str] = undo.enter_context((self._storage / ".lock").open("w"))
        except OSError as error:
            raise ServiceError(f"the storage folder {self._storage} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ServiceError(
                f"another node uses the storage folder {self._storage}; stop it or give this one its own"
            ) from None

    def _set_up(self, undo: ExitStack) -> None:
        node, model = self._settings.node, self._settings.model
        self._stopping.clear()
        self._records = Records(self._storage / "records")
        self._inbox = Inbox(self._storage / "inbox", self._records.knows)
        self._outbox = Outbox(self._storage / "outbox")
        self._tracker = StudyTracker(node.quiet_seconds)
        self._reader = StudyReader(self._detector, undo.enter_context(MammogramReader()), model.threshold)
        self._couriers = [self._courier(destination) for destination in self._settings.destinations]
        self._service = StorageService(
            node.ae_title,
            self._storage / "incoming",
            self._receive,
            host=node.host,
            port=node.port,
            allowed_callers=node.allowed_callers,
        )

    def _courier(self, settings: DestinationSettings) -> Courier:
        if settings.ae_title is None or settings.host is None or settings.port is None:
            raise ServiceError(f"the destination '{settings.name}' has no AE title, host and port to send to")
        destination = Destination(settings.name, settings.ae_title, settings.host, settings.port)
        client = StorageClient(self._settings.node.ae_title)
        return Courier(destination, client, self._delivered, retry_seconds=settings.retry_hours * 3600)

    def _resume(self) -> None:
        for parcel in self._outbox.parcels():
            reports = self._records.load(parcel.study).reports
            report = next((r for r in reports if r.number == parcel.number), None)
            if report is not None:  # without a record its images lie unread in the inbox, and it is made again
                self._dispatch(parcel, report)
        for study in self._inbox.studies():
            self._tracker.image_arrived(study)

    def _receive(self, received: ReceivedObject) -> Receipt:
        receipt = self._inbox.add(received)
        log.info(
            f"object {receipt}",
            study=received.study_instance_uid,
            image=received.sop_instance_uid,
            sop_class=received.sop_class_uid.name,
            caller=received.calling_ae_title,
        )
        if receipt is Receipt.STORED:
            self._tracker.image_arrived(received.study_instance_uid)
            self._wake.set()
        return receipt

    def _stop_working(self) -> None:
        self._stopping.set()
        self._wake.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._work_once()
            except Exception as error:  # a reader thread that dies is worse than a step left for the next start
                log.warning("reader stumbled", error=where_raised(error))
                self._stopping.wait(1.0)

    def _work_once(self) -> None:
        study = self._tracker.take_next()
        if study is not None:
            self._process(study)
            return
        self._tidy()
        wait = self._tracker.seconds_until_next()
        self._wake.wait(TIDY_EVERY_SECONDS if wait is None else min(wait, TIDY_EVERY_SECONDS))
        self._wake.clear()

    def _process(self, study: str) -> None:
        try:
            files = self._inbox.images(study)
            try:
                self._read(study, files)
            except ReadingInterruptedError:
                log.info("study left for the next start", study=study)
            except OSError:
                raise
            except Exception as error:
                self._set_aside(study, files, error)
        except OSError as error:  # a full or broken disk: the images stay where they are and the study keeps its turn
            log.warning("study put off", study=study, error=where_raised(error))
            self._tracker.postpone(study, DISK_TROUBLE_WAIT_SECONDS)

    def _read(self, study: str, files: Sequence[Path]) -> None:
        record = self._records.load(study)
        if _all_in(record.images_read, files):
            return
        log.info("study quiet", study=study, images=len(files))
        started = time.monotonic()
        reading = self._reader.read(files, interrupted=self._stopping.is_set)
        results = self._make_results(reading.images, self._detector.algorithm)
        number = len(record.reports) + 1
        parcel = self._outbox.put(study, number, results.objects)
        report = self._report(number, reading, results, time.monotonic() - started)
        self._records.add_report(study, report)
        for problem in report.problems:
            log.error("result incomplete", study=study, report=number, reason=problem)
        log.info(
            "study read",
            study=study,
            report=number,
            images=len(files),
            findings=sum(image.findings for image in report.images),
            not_processed=sum(image.reason is not None for image in report.images),
            seconds=report.seconds,
        )
        self._dispatch(parcel, report)

    def _report(self, number: int, reading: StudyReading, results: StudyResults, seconds: float) -> Report:
        algorithm = self._detector.algorithm
        return Report(
            number=number,
            made_at=datetime.now(UTC),
            algorithm=f"{algorithm.name} {algorithm.version}",
            seconds=round(seconds, 3),
            images=tuple(
                ImageRecord(sop_instance_uid=r.name, status=r.status, findings=len(r.findings), reason=r.reason)
                for r in reading.readings
            ),
            results=tuple(
                ResultRecord(sop_class_uid=str(o.SOPClassUID), sop_instance_uid=str(o.SOPInstanceUID))
                for o in results.objects
            ),
            problems=results.problems,
            deliveries=tuple(DeliveryRecord(destination=d.name) for d in self._settings.destinations),
        )

    def _set_aside(self, study: str, files: Sequence[Path], error: Exception) -> None:
        """Keep the images of a study that gave no results, and say why; a resend of them is a new try.

        Images that arrived since the others were listed are read when the study is quiet again.
        """
        reason = str(error) if isinstance(error, MammoscopeError) else f"unexpected {where_raised(error)}"
        now = datetime.now(UTC)
        target = self._storage / "failed" / study / f"images-{now:%Y%m%dT%H%M%S%f}"
        images = tuple(file.stem for file in files)
        self._inbox.move(files, target, {"study": study, "reason": reason})
        if self._inbox.images(study):
            self._tracker.image_arrived(study)
        self._records.add_failure(study, Failure(at=now, reason=reason, images=images))
        log.error("study failed", study=study, reason=reason, kept=target.name)

    def _dispatch(self, parcel: Parcel, report: Report) -> None:
        pending = {d.destination for d in report.deliveries if d.status is DeliveryStatus.PENDING}
        couriers = {courier.destination.name: courier for courier in self._couriers}
        for name in sorted(pending & couriers.keys()):
            couriers[name].post(parcel)
        for name in sorted(pending - couriers.keys()):
            gone = DeliveryRecord(
                destination=name, status=DeliveryStatus.FAILED, errors=("no destination of this name in the settings",)
            )
            report = self._records.set_delivery(parcel.study, parcel.number, gone)
        if not report.pending:
            self._close(parcel, report)

    def _delivered(self, delivery: Delivery) -> None:
        parcel, status = delivery.parcel, DeliveryStatus.FAILED if delivery.errors else DeliveryStatus.SENT
        noted = DeliveryRecord(
            destination=delivery.destination.name, status=status, tries=delivery.tries, errors=delivery.errors
        )
        report = self._records.set_delivery(parcel.study, parcel.number, noted)
        facts = {"study": parcel.study, "report": parcel.number, "destination": noted.destination}
        if delivery.errors:
            log.error("results not sent", **facts, tries=delivery.tries, reasons=list(delivery.errors))
        else:
            log.info("results sent", **facts, objects=len(parcel.files), tries=delivery.tries)
        if not report.pending:
            self._close(parcel, report)
        self._wake.set()

    def _close(self, parcel: Parcel, report: Report) -> None:
        failed = {d.destination: list(d.errors) for d in report.deliveries if d.status is DeliveryStatus.FAILED}
        if failed:
            target = self._storage / "failed" / parcel.study / f"report-{parcel.number}"
            self._outbox.set_aside(parcel, target, {"study": parcel.study, "not delivered to": failed})
        else:
            self._outbox.discard(parcel)

    def _tidy(self) -> None:
        """Delete the images of studies that were read and answered long enough ago."""
        made_before = datetime.now(UTC) - timedelta(hours=self._settings.node.keep_images_hours)
        for study in self._inbox.studies():
            record = self._records.load(study)
            if not record.reports or record.reports[-1].made_at > made_before or any(r.pending for r in record.reports):
                continue
            if self._inbox.remove(study, only_if=partial(_all_in, record.images_read)):
                log.info("images removed", study=study)


def _all_in(read: frozenset[str], files: Sequence[Path]) -> bool:
    return all(file.stem in read for file in files)
