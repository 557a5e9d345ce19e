"""`PhantomRounds`: sends a phantom round the node at an interval, each hop timed.

Health proved by traffic: what a phantom is, and how its last round fared.

A phantom is a synthetic study that goes in by the network, through the node, and whose results come back. It is told
from a patient by its Study Instance UID, which lies under `PHANTOM_ROOT`. Its results go to a receiver of the node's
own and nowhere else, and what is recorded of it is deleted once it came round.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydicom import FileDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing

from mammoscope.errors import MammoscopeError
from mammoscope.findings import ReadingStatus
from mammoscope.imaging import PresentationIntent
from mammoscope.logging import where_raised
from mammoscope.network import Destination, Receipt, ReceivedObject, StorageClient, StorageService
from mammoscope.node.db.repository import DeliveryStatus, Records, StudyRecord, StudyState
from mammoscope.node.storage.durable_files import write_whole
from mammoscope.phantom import COLUMNS, ROWS, screening_study
from mammoscope.settings import DestinationSettings, NodeSettings

PHANTOM_ROOT = "2.25.142014976573331604290964696774161782405"
"""Root of the UIDs of phantoms: a UUID (DICOM PS3.5 B.2), and below it the time of the round and the object."""
PHANTOM_DESTINATION = "(phantom)"
"""What records call the receiver that phantoms' results come back to."""

LOOPBACK = "127.0.0.1"
"""Where results come back to: the process that receives sends phantoms' results too, so nobody else need reach it."""

PHANTOM_RECEIVER = DestinationSettings(name=PHANTOM_DESTINATION, ae_title="PHANTOM", host=LOOPBACK, port=1)
"""Stands for the receiver where a process has none, so that the results of a phantom name it all the same."""


def is_phantom(study_instance_uid: str) -> bool:
    """Tell whether a study is a phantom's, of this node or of another."""
    return study_instance_uid.startswith(f"{PHANTOM_ROOT}.")


def phantom_images(
    study_instance_uid: str,
    rows: int = ROWS,
    columns: int = COLUMNS,
    intent: PresentationIntent = PresentationIntent.FOR_PRESENTATION,
) -> list[FileDataset]:
    """The four views of a synthetic study under the UIDs of one round.

    Parameters
    ----------
    intent
        What they say they are meant for; the pixels are the same.
    """
    images = [image.dataset for image in screening_study(0, rows=rows, columns=columns).images]
    for number, image in enumerate(images, start=1):
        image.StudyInstanceUID = study_instance_uid
        image.SeriesInstanceUID = f"{study_instance_uid}.0"
        image.SOPInstanceUID = f"{study_instance_uid}.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        if intent is PresentationIntent.FOR_PROCESSING:
            image.SOPClassUID = DigitalMammographyXRayImageStorageForProcessing
            image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
            image.PresentationIntentType = str(intent)
        image.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    return images


@dataclass(frozen=True, slots=True)
class PhantomRound:
    """One round.

    Parameters
    ----------
    study
        Its Study Instance UID.
    at
        When it was sent.
    came_round
        Whether all its results came back in time and every image was processed.
    reason
        Why it did not; ``None`` if it did.
    hops
        Seconds of ``receive`` (until all images were acknowledged), ``wait`` (until the reading began), ``read`` and
        ``return`` (from the results to their coming back), as far as it came.
    findings
        In all its images.
    """

    study: str
    at: datetime
    came_round: bool
    reason: str | None = None
    hops: Mapping[str, float] = field(default_factory=dict)
    findings: int = 0


class LastRound:
    """The last round as the storage folder keeps it, for those who ask beside the node."""

    def __init__(self, storage: Path) -> None:
        self._file = storage / "phantom" / "last.json"

    def load(self) -> PhantomRound | None:
        """Read it; ``None`` before the first."""
        try:
            said = json.loads(self._file.read_bytes())
            return PhantomRound(**{**said, "at": datetime.fromisoformat(said["at"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, done: PhantomRound) -> None:
        """Keep it."""
        write_whole(self._file, json.dumps({**asdict(done), "at": done.at.isoformat()}, indent=2) + "\n")


KEPT_SECONDS = 24 * 3600.0
"""How long a phantom that did not come round stays to be looked at."""

_POLL_SECONDS = 0.25

log = structlog.get_logger(__name__)


class PhantomError(MammoscopeError):
    """Why a phantom did not come round."""


class RoundGivenUpError(Exception):
    """The node is being stopped."""


@dataclass(frozen=True, slots=True)
class RoundNode:
    """The node that a phantom goes round.

    Parameters
    ----------
    address
        Where it is called.
    records
        What it knows.
    forget
        Deletes all that it keeps of a study: files and records.
    """

    address: Destination
    records: Records
    forget: Callable[[str], None]


class PhantomRounds:
    """Sends a phantom round the node at an interval, and tells how it fared.

    Parameters
    ----------
    settings
        With a section ``[health]``.
    client
        How the node is called, as itself.
    images
        Makes the images of a round from its Study Instance UID.
    """

    def __init__(
        self,
        settings: NodeSettings,
        client: StorageClient,
        images: Callable[[str], Sequence[FileDataset]] = phantom_images,
    ) -> None:
        if settings.health is None:
            raise ValueError("rounds need a section [health]")
        self._settings = settings
        self._health = settings.health
        self._client = client
        self._images = images
        self._folder = settings.node.storage / "phantom"
        self._kept = LastRound(settings.node.storage)
        self._stopping = threading.Event()
        self._came_back: set[str] = set()
        self._receiver = StorageService(
            settings.node.ae_title,
            self._folder / "incoming",
            self._take_back,
            host=LOOPBACK,
            allowed_callers=(settings.node.ae_title,),
        )
        self._thread: threading.Thread | None = None
        self._since = float("inf")
        self._has_sent = False
        self.last = self._kept.load()
        """The last round, of this process or of one before it."""

    def listen(self) -> None:
        """Open the receiver, before the node sends anything.

        Raises
        ------
        ServiceError
            If it cannot listen.
        """
        self._receiver.start()

    @property
    def destination(self) -> DestinationSettings:
        """The receiver, once it listens, as a destination that takes the results of phantoms."""
        return DestinationSettings(
            name=PHANTOM_DESTINATION,
            ae_title=self._settings.node.ae_title,
            host=LOOPBACK,
            port=self._receiver.port,
            retry_hours=self._health.deadline_seconds / 3600,
        )

    def start(self, node: RoundNode) -> None:
        """Begin with a round at once, when the node listens."""
        self._since = time.monotonic()
        self._thread = threading.Thread(target=self._go_round, args=(node,), name="phantom", daemon=True)
        self._thread.start()

    def give_up(self) -> None:
        """Send no more; a round under way is abandoned."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Give up and close the receiver."""
        self.give_up()
        self._receiver.stop()

    def wrong(self) -> str | None:
        """Say what is wrong, if the last round failed or none came round for too long."""
        if self.last is not None and not self.last.came_round:
            return f"the last phantom did not come round: {self.last.reason}"
        between = self._health.every_minutes * 60 if self._has_sent else 0.0
        if time.monotonic() - self._since <= between + self._health.deadline_seconds:
            return None
        since = f"since {self.last.at:%Y-%m-%d %H:%M} UTC" if self.last else "yet"
        return f"no phantom has come round {since}"

    def once(self, node: RoundNode) -> PhantomRound:
        """Send one phantom and wait for its results, or for the deadline."""
        at, study = datetime.now(UTC), f"{PHANTOM_ROOT}.{time.time_ns() // 1_000_000}"
        self._came_back.clear()
        (self._folder / study).touch()  # so that it is forgotten one day, whatever becomes of this process
        hops: dict[str, float] = {}
        record = None
        try:
            started = time.monotonic()
            self._send(study, node)
            hops["receive"] = time.monotonic() - started
            record = self._await(node.records, study, started + self._health.deadline_seconds)
            report = record.reports[-1]
            hops["wait"], hops["read"] = report.waited_seconds, report.seconds
            hops["return"] = max(0.0, time.monotonic() - started - sum(hops.values()))
            reason = None
        except MammoscopeError as error:
            reason = str(error)
        findings = sum(image.findings for image in record.images) if record else 0
        rounded = {hop: round(seconds, 3) for hop, seconds in hops.items()}
        return PhantomRound(study, at, reason is None, reason, rounded, findings)

    def _send(self, study: str, node: RoundNode) -> None:
        for sending in self._client.send(list(self._images(study)), node.address):
            if sending.error is not None:
                raise PhantomError(f"the node did not take it: {sending.error}")

    def _await(self, records: Records, study: str, deadline: float) -> StudyRecord:
        """Wait until all results are back.

        Raises
        ------
        PhantomError
            If they are not in time, cannot come any more, or an image was not processed.
        """
        while True:
            record = records.study(study)
            if record is not None and _is_sent(record) and self._came_back >= _results(record):
                for image in record.images:
                    if image.status is ReadingStatus.NOT_PROCESSED:
                        raise PhantomError(f"an image of it was not processed: {image.reason}")
                return record
            if record is not None and record.state in (StudyState.FAILED, StudyState.PARKED):
                raise PhantomError(_why(record))
            if time.monotonic() > deadline:
                state = "unknown to the database" if record is None else record.state
                seconds = self._health.deadline_seconds
                raise PhantomError(f"its results were not back after {seconds:g} seconds; the study is {state}")
            if self._stopping.wait(_POLL_SECONDS):
                raise RoundGivenUpError("the node was stopped")

    def _take_back(self, received: ReceivedObject) -> Receipt:
        self._came_back.add(received.sop_instance_uid)
        return Receipt.IGNORED

    def _go_round(self, node: RoundNode) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._one_of_many(node, began)
            except RoundGivenUpError:
                return
            except Exception as error:  # the next round may fare better, and its being late is told
                log.warning("phantom round failed", error=where_raised(error))
            self._stopping.wait(max(1.0, self._health.every_minutes * 60 - (time.monotonic() - began)))

    def _one_of_many(self, node: RoundNode, began: float) -> None:
        self._sweep(node)
        done = self.once(node)
        self.last, self._since, self._has_sent = done, began, True
        self._kept.save(done)
        if done.came_round:
            log.info("phantom came round", study=done.study, findings=done.findings, **done.hops)
            self._sweep_one(node, done.study)
        else:
            log.error("phantom did not come round", study=done.study, reason=done.reason, **done.hops)

    def _sweep(self, node: RoundNode) -> None:
        """Forget the phantoms that did not come round long ago."""
        oldest = (time.time() - KEPT_SECONDS) * 1000
        for file in self._folder.glob(f"{PHANTOM_ROOT}.*"):
            if int(file.name.rpartition(".")[2]) < oldest:
                self._sweep_one(node, file.name)

    def _sweep_one(self, node: RoundNode, study: str) -> None:
        node.forget(study)
        (self._folder / study).unlink(missing_ok=True)


def _is_sent(record: StudyRecord) -> bool:
    deliveries = record.reports[-1].deliveries if record.reports else ()
    return bool(deliveries) and all(delivery.status is DeliveryStatus.SENT for delivery in deliveries)


def _results(record: StudyRecord) -> set[str]:
    return {sending.sop_instance_uid for d in record.reports[-1].deliveries for sending in d.objects}


def _why(record: StudyRecord) -> str:
    if record.failures:
        return f"it could not be read: {record.failures[-1].reason}"
    errors = [error for d in record.reports[-1].deliveries for error in d.errors]
    return f"its results could not be sent: {'; '.join(errors)}"
