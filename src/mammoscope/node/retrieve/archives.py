"""Archives that are read by DICOMweb, C-GET or C-MOVE, as a `Puller` sees them.

Pullers put together: for the pollers of a node, and for a command beside one.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from mammoscope.errors import MammoscopeError
from mammoscope.network import (
    AssociationRejectedError,
    Caller,
    ContextNotAcceptedError,
    DimsePeer,
    FoundStudy,
    NetworkError,
    ObjectRefusedError,
    QueryClient,
    Receipt,
    ReceivedObject,
    Receiver,
    Retrieval,
    StatusError,
    StorageClient,
    TLSConfig,
    WebClient,
    WebPeer,
)
from mammoscope.network.received import OUT_OF_RESOURCES, SOP_CLASS_NOT_SUPPORTED
from mammoscope.node.db.repository import Records, StudyState
from mammoscope.node.retrieve.history import PullLedger
from mammoscope.node.retrieve.poller import Archive, Poller, Puller
from mammoscope.settings import NodeSettings, SourceSettings, Transport

ARCHIVE_SECONDS = 120.0
"""How long an archive may be silent: one that has a study on tape answers late."""


_Peer = TypeVar("_Peer", bound=WebPeer | DimsePeer)
_Asked_contra = TypeVar("_Asked_contra", bound=WebPeer | DimsePeer, contravariant=True)


class _Finder(Protocol[_Asked_contra]):
    def find_studies(
        self, source: _Asked_contra, where: Mapping[str, str] | None, since: date | None, until: date | None
    ) -> Iterable[FoundStudy]: ...

    def find_instances(self, source: _Asked_contra, study: str) -> frozenset[str]: ...


class NotTakenError(MammoscopeError):
    """The node cannot take objects for now."""


@contextmanager
def _intake(hand_over: Receiver) -> Iterator[Receiver]:
    """Hand objects over, and keep the two kinds of trouble apart.

    An object that the node does not want is refused, once and for all. When the node cannot take any, a retrieval is of
    no use, and its end says why, whatever became of the exception on its way through a protocol.
    """
    trouble: list[MammoscopeError] = []

    def take(received: ReceivedObject) -> Receipt:
        if not trouble:
            try:
                return hand_over(received)
            except ObjectRefusedError as error:
                if error.status & 0xFF00 != OUT_OF_RESOURCES:
                    raise
                trouble.append(NotTakenError(str(error)))
            except OSError as error:
                words = error.strerror or type(error).__name__
                trouble.append(NotTakenError(f"the node cannot keep objects: {words}; look at its disk"))
            except NetworkError as error:
                trouble.append(error)
        raise trouble[0]

    yield take
    if trouble:
        raise trouble[0]


class _AskedArchive(Generic[_Peer]):
    """An archive whose studies and instances are found by one client; how they come here is the subclasses'."""

    def __init__(self, client: _Finder[_Peer], peer: _Peer) -> None:
        self.name = peer.name
        self._finder = client
        self._peer = peer

    def find(self, where: Mapping[str, str], since: date, until: date | None) -> Iterable[FoundStudy]:
        """The studies that match, by Study Date."""
        return self._finder.find_studies(self._peer, where, since, until)

    def instances(self, study: str) -> frozenset[str]:
        """SOP Instance UIDs of a study's objects there."""
        return self._finder.find_instances(self._peer, study)


class FetchedArchive(_AskedArchive[_Peer]):
    """An archive whose objects come to this process, which hands them on: by WADO-RS or C-GET.

    Parameters
    ----------
    retrieve
        The client's `WebClient.retrieve` or `QueryClient.get`.
    folder
        For objects on their way, on the file system of the node's storage.
    """

    failures_last = True  # what it cannot send in any encoding that we take, it cannot send tomorrow

    def __init__(
        self,
        client: _Finder[_Peer],
        peer: _Peer,
        retrieve: Callable[[_Peer, str, Receiver, Path], Retrieval],
        hand_over: Receiver,
        folder: Path,
    ) -> None:
        super().__init__(client, peer)
        self._retrieve = retrieve
        self._hand_over = hand_over
        self._folder = folder

    def fetch(self, study: str) -> Retrieval:
        """Bring all objects of a study to the node."""
        with _intake(self._hand_over) as take:
            return self._retrieve(self._peer, study, take, self._folder)


class MovingArchive(_AskedArchive[DimsePeer]):
    """An archive that sends its objects to the node itself."""

    failures_last = False

    def __init__(self, client: QueryClient, peer: DimsePeer, ae_title: str) -> None:
        super().__init__(client, peer)
        self._client = client
        self._ae_title = ae_title

    def fetch(self, study: str) -> Retrieval:
        """Have all objects of a study sent to the node."""
        return self._client.move(self._peer, study, self._ae_title)


def open_archive(settings: NodeSettings, source: SourceSettings, hand_over: Receiver) -> Archive:
    """Make the archive that a source's settings mean.

    Parameters
    ----------
    hand_over
        Given each object that comes to this process, marked as pulled.
    """
    node = settings.node
    tls = tls_of(settings)
    incoming = node.storage / "incoming"

    def marked(received: ReceivedObject) -> Receipt:
        return hand_over(replace(received, move_originator=node.ae_title))

    if source.transport is Transport.DICOMWEB:
        token = source.token.get_secret_value() if source.token else None
        web, peer = WebClient(tls=tls), WebPeer(source.name, source.url or "", token)
        return FetchedArchive(web, peer, web.retrieve, marked, incoming)
    archive = DimsePeer(source.name, source.ae_title or "", source.host or "", source.port or 0, source.tls)
    client = QueryClient(Caller(node.ae_title, ARCHIVE_SECONDS, tls))
    if source.retrieve == "get":
        return FetchedArchive(client, archive, client.get, marked, incoming)
    return MovingArchive(client, archive, node.ae_title)


def tls_of(settings: NodeSettings) -> TLSConfig | None:
    """Our certificate, if there is one."""
    tls = settings.tls
    return TLSConfig(tls.certificate, tls.key, tls.trusted) if tls is not None else None


LONGEST_QUEUE = 20
"""Studies that wait to be read, or are; with more, archives wait."""


def node_pollers(
    settings: NodeSettings,
    receive: Receiver,
    records: Records,
    stopping: threading.Event,
    hindrance: Callable[[], str | None] = lambda: None,
) -> tuple[Poller, ...]:
    """Make the pollers of a node, one for each source that is to be polled; they are not started.

    Parameters
    ----------
    receive
        What the node's storage service calls too.
    stopping
        Ends them all.
    hindrance
        Why the node can take nothing for now, beside a long queue; ``None`` when it can.

    Raises
    ------
    OSError
        If a ledger cannot be opened.
    """
    return tuple(
        Poller(
            _puller(settings, source, open_archive(settings, source, receive), records, stopping, hindrance),
            source.where,
            source.poll_seconds,
        )
        for source in settings.sources
        if source.poll_seconds
    )


@contextmanager
def command_puller(settings: NodeSettings, source: SourceSettings) -> Iterator[Puller]:
    """Make a puller beside a running node: what comes to this process is stored into the node over the network.

    Raises
    ------
    MammoscopeError
        If the node does not answer, or its storage folder cannot be used.
    """
    node = _the_node_itself(settings)
    title = settings.node.ae_title
    client = StorageClient(title, tls=tls_of(settings), move_originator=title)
    try:
        client.echo(node)
    except AssociationRejectedError:
        if source.transport is Transport.DICOMWEB or source.retrieve != "move":
            raise  # by C-MOVE the archive stores into the node, whom it may let in though not us

    def store(received: ReceivedObject) -> Receipt:
        [sending] = client.send([received.path], node)
        match sending.error:
            case None:
                return Receipt.STORED
            case StatusError(worth_retrying=False, status=status) as error:
                raise ObjectRefusedError(str(error), status)
            case ContextNotAcceptedError() as error:
                raise ObjectRefusedError(str(error), SOP_CLASS_NOT_SUPPORTED)
            case error:
                raise error

    database = settings.node.database
    try:
        with Records.open(settings.node.storage, database.get_secret_value() if database else None) as records:
            yield _puller(settings, source, open_archive(settings, source, store), records, threading.Event())
    except OSError as error:
        raise MammoscopeError(
            f"the storage folder {settings.node.storage} cannot be used: {error.strerror}; run this where the node"
            " runs, as its user"
        ) from None


def _puller(
    settings: NodeSettings,
    source: SourceSettings,
    archive: Archive,
    records: Records,
    stopping: threading.Event,
    hindrance: Callable[[], str | None] = lambda: None,
) -> Puller:
    def busy() -> str | None:
        studies = records.counts().studies
        waiting = studies[StudyState.RECEIVING] + studies[StudyState.READING]
        return f"{waiting} studies wait to be read" if waiting >= LONGEST_QUEUE else hindrance()

    ledger = PullLedger(settings.node.storage / "pulled", source.name)
    return Puller(archive, ledger, busy=busy, known=partial(records.known_objects, put_aside=True), stopping=stopping)


def _the_node_itself(settings: NodeSettings) -> DimsePeer:
    """The running node, as it is called from its own machine."""
    node, plain = settings.node, settings.listens_plain
    port = node.port if plain else settings.tls_port
    if not port:
        raise MammoscopeError("the settings give the node no fixed port to store into: set 'port' in [node]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(node.host, node.host)
    return DimsePeer("the node", node.ae_title, host, port, tls=not plain)
