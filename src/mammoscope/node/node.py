"""`Node`: a worker that also receives, and puts right at start what an end left undone."""

import fcntl
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import structlog
from starlette.routing import Route

from mammoscope.imaging import MammogramError, PresentationIntent
from mammoscope.imaging.header import find_attributes
from mammoscope.lifecycle import Running
from mammoscope.network import (
    Caller,
    CallerRefusal,
    CommitmentReports,
    CommitmentService,
    ObjectRefusal,
    Receipt,
    ReceivedObject,
    ServiceError,
    StorageService,
    StowService,
)
from mammoscope.node.db.repository import Records
from mammoscope.node.events import AssociationRefused, Listener, ObjectReceived, Origin
from mammoscope.node.jobs.deliver_report import dimse_peers
from mammoscope.node.jobs.heartbeat import Heartbeat
from mammoscope.node.jobs.make_report import MakeResults
from mammoscope.node.jobs.queue import DurableWork
from mammoscope.node.jobs.scheduler import RECONCILE_EVERY_SECONDS
from mammoscope.node.retrieve.archives import node_pollers, tls_of
from mammoscope.node.retrieve.poller import origin_of as pulled_or_sent
from mammoscope.node.storage.accessions import AccessionDigests
from mammoscope.node.storage.disk_space import DiskGuard
from mammoscope.node.storage.receiver import Reception
from mammoscope.node.worker import Worker
from mammoscope.reading import MammogramDetector
from mammoscope.results import study_results
from mammoscope.settings import DestinationSettings, NodeSettings

RECEIVER = "node"
"""What the receiving worker is called: there is one for a storage folder."""

log = structlog.get_logger(__name__)


class Node(Running):
    """One DICOM node beside a PACS: receives studies, reads each when it is complete or quiet, sends the results.

    What it has promised lies under the storage folder: ``inbox`` (images), ``outbox`` (results), ``failed`` (images
    that gave no results), ``incoming`` (objects on their way in); and in the database, what became of all of it.
    Whenever the process ends, the next start resumes from there.

    Parameters
    ----------
    detector
        Reads one mammogram.
    at_once
        How many studies are read at once.
    intents
        What the detector reads.
    make_results
        Makes a study's result objects.
    listeners
        Told of each event of `mammoscope.node.events`, after the log.
    origin_of
        Why an object that arrived is here.
    phantom_destination
        Who takes the results of phantom studies, and of no other.
    make_heartbeat
        Makes what says that we live and who died.
    reconcile_every_seconds
        How often records, durable work and work in hand are reconciled.

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
        at_once: int = 1,
        intents: Collection[PresentationIntent] = tuple(PresentationIntent),
        make_results: MakeResults = study_results,
        listeners: Sequence[Listener] = (),
        origin_of: Callable[[ReceivedObject], Origin] = lambda _: Origin.SENT,
        phantom_destination: DestinationSettings | None = None,
        make_heartbeat: Callable[[DurableWork, Records], Heartbeat] = Heartbeat,
        reconcile_every_seconds: float = RECONCILE_EVERY_SECONDS,
    ) -> None:
        self._settings = settings
        self._storage = settings.node.storage
        self._origin_of = origin_of
        self._commitment = CommitmentReports()
        self._open = ExitStack()

        def make_worker() -> Worker:
            return Worker(
                settings,
                detector,
                RECEIVER,
                at_once=at_once,
                intents=intents,
                make_results=make_results,
                listeners=listeners,
                phantom_destination=phantom_destination,
                receives=True,
                commitment=self._commitment,
                make_heartbeat=make_heartbeat,
                reconcile_every_seconds=reconcile_every_seconds,
            )

        self._make_worker = make_worker

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._service.port

    @property
    def tls_port(self) -> int | None:
        """The port listened on by TLS."""
        return self._service.tls_port

    @property
    def records(self) -> Records:
        """What the node knows, while it runs."""
        return self._worker.records

    def start(self) -> None:
        """Take the storage folder, resume what lies there, and listen.

        Raises
        ------
        ServiceError
            If the storage folder cannot be used, another node uses it, or the address cannot be listened on.
        DatabaseError
            If the database cannot be used.
        """
        with ExitStack() as undo:
            _take(self._storage, undo)
            refuse_old(self._storage)
            self._worker = self._make_worker()
            self._reception = Reception(
                self._worker.inbox,
                self._worker.records,
                self._origin,
                self._worker.announce,
                self._worker.wake,
                AccessionDigests(self._storage).digest,
            )
            self._register_orphans()
            self._worker.start()
            undo.callback(self._worker.stop)
            self._service = self._make_service()
            self._service.start()
            undo.callback(self._service.stop)
            self._poll_archives(undo)
            self._open = undo.pop_all()
        node = self._settings.node
        port = self.port if self._settings.listens_plain else None
        log.info("node started", ae_title=node.ae_title, host=node.host, port=port, tls_port=self.tls_port)

    def stop(self) -> None:
        """Take nothing new, finish the image and the deliveries under way, leave the rest for the next start."""
        self._open.close()
        log.info("node stopped")

    def receive(self, received: ReceivedObject, origin: Origin | None = None) -> Receipt:
        """Take an object that came another way than by C-STORE, for example by STOW-RS or a poller.

        Raises
        ------
        ObjectRefusedError
            If another image has its SOP Instance UID.
        OSError
            If it cannot be kept.
        """
        return self._reception.receive(received, origin)

    def stow_routes(self) -> list[Route]:
        """Give what a web service needs to take objects by STOW-RS; nothing when nobody has a token."""
        web, node = self._settings.web, self._settings.node
        if web is None or not web.tokens:
            return []
        tokens = {f"token {number}": token.get_secret_value() for number, token in enumerate(web.tokens, start=1)}
        return StowService(
            self._storage / "incoming",
            self.receive,
            tokens,
            allowed_networks=node.allowed_addresses,
            on_caller_refused=self._caller_refused,
            on_object_refused=self._object_refused,
            back_pressure=self._back_pressure,
            largest_object=int(node.largest_object_gigabytes * 1e9),
        ).routes()

    def reading_trouble(self) -> str | None:
        """What of the machine keeps studies from being read now, in one sentence; ``None`` when nothing does."""
        return self._worker.reading_trouble()

    def work_trouble(self) -> str | None:
        """Why nothing is handed out to be read or sent, in one sentence; ``None`` while it is."""
        return self._worker.work_trouble()

    def forget(self, study: str) -> None:
        """Delete all that is kept of a study, files and records, for example of a phantom."""
        self._worker.forget(study)

    def _origin(self, received: ReceivedObject) -> Origin:
        origin = self._origin_of(received)
        return pulled_or_sent(received, self._settings.node.ae_title) if origin is Origin.SENT else origin

    def _poll_archives(self, undo: ExitStack) -> None:
        stopping = threading.Event()
        for poller in node_pollers(self._settings, self.receive, self.records, stopping):
            poller.start()
            undo.callback(poller.stop)
        undo.callback(stopping.set)

    def _make_service(self) -> StorageService:
        node = self._settings.node
        peers = dimse_peers(self._settings)
        caller = Caller(node.ae_title, tls=tls_of(self._settings))
        commitment = CommitmentService(
            self._worker.records.holds,
            peers.get,
            caller,
            self._commitment,
            is_held=self._worker.records.holds_under_any_class,
        )
        self._guard = DiskGuard(self._storage, int(node.free_gigabytes * 1e9))
        return StorageService(
            node.ae_title,
            self._storage / "incoming",
            self._reception.receive,
            host=node.host,
            port=node.port,
            plain=self._settings.listens_plain,
            tls=tls_of(self._settings),
            tls_port=self._settings.tls_port,
            allowed_callers=node.allowed_callers,
            allowed_networks=node.allowed_addresses,
            on_caller_refused=self._caller_refused,
            on_object_refused=self._object_refused,
            back_pressure=self._back_pressure,
            largest_object=int(node.largest_object_gigabytes * 1e9),
            extensions=[commitment],
        )

    def _back_pressure(self) -> str | None:
        return None if self._guard.has_room() else self._guard.refusal

    def _caller_refused(self, refusal: CallerRefusal) -> None:
        self._worker.announce(
            AssociationRefused(peer=refusal.peer, address=refusal.address, reason=refusal.reason, times=refusal.times)
        )

    def _object_refused(self, refusal: ObjectRefusal) -> None:
        self._worker.announce(
            ObjectReceived(
                study="",
                sop_instance=refusal.sop_instance_uid,
                sop_class=refusal.sop_class_uid,
                peer=refusal.peer,
                address=refusal.address,
                outcome="refused",
                reason=refusal.reason,
            )
        )

    def _register_orphans(self) -> None:
        """Take in images whose file is here but that no row tells of: an end came between the two.

        Their senders were never told "success"; they may not send them again.
        """
        inbox, records = self._worker.inbox, self._worker.records
        for study in inbox.studies():
            known = records.known_objects(study, put_aside=False)
            for file in inbox.images(study):
                if file.stem not in known:
                    records.add_object(study, file.stem, _sop_class(file), peer="")


def refuse_old(storage: Path) -> None:
    """Refuse a storage folder that an older Mammoscope made.

    Raises
    ------
    ServiceError
        If it is one.
    """
    if any((storage / "records").glob("*.json")):
        raise ServiceError(
            f"the storage folder {storage} was made by an older Mammoscope (it has records/*.json), which this one"
            " cannot resume from; let that one finish, then give this one a new folder"
        )


def is_running(storage: Path) -> bool:
    """Tell whether a node uses a storage folder now."""
    try:
        with (storage / ".lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no node was ever here
        return False
    return False


def _take(storage: Path, undo: ExitStack) -> None:
    try:
        storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock: IO[str] = undo.enter_context((storage / ".lock").open("w"))
    except OSError as error:
        raise ServiceError(f"the storage folder {storage} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ServiceError(
            f"another node uses the storage folder {storage}; stop it or give this one its own"
        ) from None


def _sop_class(file: Path) -> str:
    try:
        return find_attributes(file, ["SOPClassUID"]).get("SOPClassUID")
    except (OSError, MammogramError):  # reading it will say what is wrong
        return ""
