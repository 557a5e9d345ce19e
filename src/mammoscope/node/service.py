"""`OperatedNode`: a node with all that its administrator needs around it: audit trail, metrics, pages, phantoms."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from pydicom import FileDataset

from mammoscope import __version__
from mammoscope.imaging import PresentationIntent
from mammoscope.lifecycle import Running
from mammoscope.network import Destination, ReceivedObject, ServiceError, StorageClient, WebService
from mammoscope.network.echo import resolve
from mammoscope.network.syslog import SyslogClient
from mammoscope.node.audit.atna import Source
from mammoscope.node.audit.recorder import Audit, Collector
from mammoscope.node.audit.trail import AuditTrail
from mammoscope.node.events import Event, NodeStarted, NodeStopped, Origin
from mammoscope.node.jobs.scheduler import RECONCILE_EVERY_SECONDS
from mammoscope.node.monitoring.metrics import Metrics, read_state
from mammoscope.node.monitoring.phantom_check import LOOPBACK, PhantomRounds, RoundNode, is_phantom, phantom_images
from mammoscope.node.monitoring.readiness import (
    Check,
    Readiness,
    disk_has_room,
    nothing_is_late,
    operate_routes,
    storage_is_writable,
)
from mammoscope.node.node import Node
from mammoscope.node.notices.notifier import notifiers
from mammoscope.node.retrieve.archives import tls_of
from mammoscope.reading import MammogramDetector
from mammoscope.settings import NodeSettings

_EVERYWHERE = frozenset(("0.0.0.0", "::"))


class OperatedNode(Running):
    """A `Node` as it is left running in a hospital.

    Parameters
    ----------
    at_once, intents, origin_of, reconcile_every_seconds
        As of `Node`.
    images
        Makes the images of a phantom from its Study Instance UID; ``None`` for full ones of an intent that is read.

    Examples
    --------
    >>> with OperatedNode(settings, detector) as operated:  # doctest: +SKIP
    ...     print(operated.node.port)
    """

    def __init__(
        self,
        settings: NodeSettings,
        detector: MammogramDetector,
        *,
        at_once: int = 1,
        intents: Collection[PresentationIntent] = tuple(PresentationIntent),
        origin_of: Callable[[ReceivedObject], Origin] = lambda _: Origin.SENT,
        images: Callable[[str], Sequence[FileDataset]] | None = None,
        reconcile_every_seconds: float = RECONCILE_EVERY_SECONDS,
    ) -> None:
        self._settings = settings
        self._tls = tls_of(settings)
        self._algorithm = detector.algorithm
        self._origin_of = origin_of
        self._open = ExitStack()
        self.metrics = Metrics(lambda: read_state(settings, self.node.records))
        self.rounds = (
            PhantomRounds(
                settings, StorageClient(settings.node.ae_title, tls=self._tls), images or _images_meant_for(intents)
            )
            if settings.health
            else None
        )
        self.audit: Audit | None = None
        self.web: WebService | None = None

        def make_node() -> Node:
            return Node(
                _letting_ourselves_in(settings) if self.rounds else settings,
                detector,
                at_once=at_once,
                intents=intents,
                listeners=(self._tell,),
                origin_of=self._origin,
                phantom_destination=self.rounds.destination if self.rounds else None,
                reconcile_every_seconds=reconcile_every_seconds,
            )

        self._make_node = make_node
        self.node: Node
        """Once started."""

    def start(self) -> None:
        """Start everything, the node's own listening last but for the pages and the phantom.

        Raises
        ------
        ServiceError
            If an address cannot be listened on, or the storage folder cannot be used.
        DatabaseError
            If the database cannot be used.
        """
        with ExitStack() as undo:
            self.audit = undo.enter_context(audit_of(self._settings))
            if self.rounds is not None:
                self.rounds.listen()
                undo.callback(self.rounds.stop)
            self.node = undo.enter_context(self._make_node())
            if self._settings.web is not None:
                self.web = undo.enter_context(self._make_web())
            self._tell(NodeStarted(version=__version__, algorithm=f"{self._algorithm.name} {self._algorithm.version}"))
            undo.callback(lambda: self._tell(NodeStopped()))
            if self.rounds is not None:
                self.rounds.start(RoundNode(self._own_address(), self.node.records, self.node.forget))
                undo.callback(self.rounds.give_up)
            self._open = undo.pop_all()

    def stop(self) -> None:
        """Stop everything in order."""
        self._open.close()

    def _tell(self, event: Event) -> None:
        self.metrics(event)
        if self.audit is not None:
            self.audit(event)

    def _origin(self, received: ReceivedObject) -> Origin:
        return Origin.PHANTOM if is_phantom(received.study_instance_uid) else self._origin_of(received)

    def _own_address(self) -> Destination:
        node, host = self._settings.node, _own_host(self._settings.node.host)
        if self._settings.listens_plain or self.node.tls_port is None:
            return Destination("the node itself", node.ae_title, host, self.node.port)
        return Destination("the node itself", node.ae_title, host, self.node.tls_port, tls=True)

    def _make_web(self) -> WebService:
        web = self._settings.web
        assert web is not None
        routes = [*operate_routes(Readiness(self._checks()), self.metrics), *self.node.stow_routes()]
        return WebService(web.host, web.port, routes, self._tls if web.tls else None)

    def _checks(self) -> dict[str, Check]:
        node = self._settings.node
        checks: dict[str, Check] = {
            "storage": storage_is_writable(node.storage),
            "disk": disk_has_room(node.storage, node.free_gigabytes * 1e9),
            "database": self._database,
            "reading": self.node.reading_trouble,
            "work": self.node.work_trouble,
            "waiting": nothing_is_late(self.node.records, self._settings),
            "audit trail": self._audit_trail,
        }
        if self.rounds is not None:
            checks["phantom"] = self.rounds.wrong
        return checks

    def _database(self) -> None:
        self.node.records.counts()

    def _audit_trail(self) -> str | None:
        if self.audit is None or self.audit.is_writing:
            return None
        return "the audit trail cannot be written; make room on its disk and check who may write there"


@contextmanager
def audit_of(settings: NodeSettings, *, passing_on: bool = True) -> Iterator[Audit]:
    """Write the audit trail of a storage folder, and pass it on if a collector is named.

    Parameters
    ----------
    passing_on
        Not for a helper: its lines are passed on by the node, which shares the folder.

    Raises
    ------
    ServiceError
        If its folder cannot be made.
    """
    folder = settings.node.storage / "audit"
    try:
        trail = AuditTrail(folder)
    except OSError as error:
        raise ServiceError(f"the audit trail {folder} cannot be made: {error.strerror}") from None
    with ExitStack() as undo:
        if settings.audit.syslog is not None and passing_on:
            tls = tls_of(settings)
            client = SyslogClient(settings.audit.syslog, tls.calling_https() if tls else None)
            source = Source.of_this_machine(settings.node.ae_title)
            undo.enter_context(Collector(trail, folder, client, source))
        if passing_on:
            for notifier in notifiers(settings.notices, trail, folder, settings.node.ae_title, tls_of(settings)):
                undo.enter_context(notifier)
        yield undo.enter_context(Audit(trail))


def _letting_ourselves_in(settings: NodeSettings) -> NodeSettings:
    """Where only some may call, let the phantom in too."""
    node = settings.node
    changes: dict[str, tuple[str, ...]] = {}
    if node.allowed_callers:
        changes["allowed_callers"] = (*node.allowed_callers, node.ae_title)
    if node.allowed_addresses:
        changes["allowed_addresses"] = (*node.allowed_addresses, f"{resolve(_own_host(node.host), 0)}")
    return settings.model_copy(update={"node": node.model_copy(update=changes)})


def _images_meant_for(intents: Collection[PresentationIntent]) -> Callable[[str], Sequence[FileDataset]]:
    shown = PresentationIntent.FOR_PRESENTATION
    return partial(phantom_images, intent=shown if shown in intents else PresentationIntent.FOR_PROCESSING)


def _own_host(host: str) -> str:
    """Where a process of this machine calls what listens on a host."""
    return LOOPBACK if host in _EVERYWHERE else host
