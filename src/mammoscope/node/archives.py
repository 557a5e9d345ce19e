"""Archives that are read by DICOMweb, C-GET or C-MOVE, as a `Puller` sees them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

from mammoscope.errors import MammoscopeError
from mammoscope.network import (
    Caller,
    DimsePeer,
    FoundStudy,
    NetworkError,
    ObjectRefusedError,
    QueryClient,
    Receipt,
    ReceivedObject,
    Receiver,
    Retrieval,
    TLSConfig,
    WebClient,
    WebPeer,
)
from mammoscope.network.received import OUT_OF_RESOURCES
from mammoscope.node.pulling import Archive
from mammoscope.settings import NodeSettings, SourceSettings, Transport

ARCHIVE_SECONDS = 120.0
"""How long an archive may be silent: one that has a study on tape answers late."""


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


class WebArchive:
    """An archive that is read by DICOMweb: its objects come to this process, which hands them on.

    Parameters
    ----------
    folder
        For objects on their way, on the file system of the node's storage.
    """

    failures_last = True

    def __init__(self, client: WebClient, peer: WebPeer, hand_over: Receiver, folder: Path) -> None:
        self.name = peer.name
        self._client = client
        self._peer = peer
        self._hand_over = hand_over
        self._folder = folder

    def find(self, where: Mapping[str, str], since: date, until: date | None) -> Iterable[FoundStudy]:
        """The studies that match, by Study Date."""
        return self._client.find_studies(self._peer, where, since, until)

    def fetch(self, study: str) -> Retrieval:
        """Bring all objects of a study to the node."""
        with _intake(self._hand_over) as take:
            return self._client.retrieve(self._peer, study, take, self._folder)


class GettingArchive:
    """An archive that is read by C-GET: its objects come to this process, which hands them on.

    Parameters
    ----------
    folder
        For objects on their way, on the file system of the node's storage.
    """

    failures_last = True  # what it cannot send in any encoding that we take, it cannot send tomorrow

    def __init__(self, client: QueryClient, peer: DimsePeer, hand_over: Receiver, folder: Path) -> None:
        self.name = peer.name
        self._client = client
        self._peer = peer
        self._hand_over = hand_over
        self._folder = folder

    def find(self, where: Mapping[str, str], since: date, until: date | None) -> Iterable[FoundStudy]:
        """The studies that match, by Study Date."""
        return self._client.find_studies(self._peer, where, since, until)

    def fetch(self, study: str) -> Retrieval:
        """Bring all objects of a study to the node."""
        with _intake(self._hand_over) as take:
            return self._client.get(self._peer, study, take, self._folder)


class MovingArchive:
    """An archive that sends its objects to the node itself."""

    failures_last = False

    def __init__(self, client: QueryClient, peer: DimsePeer, ae_title: str) -> None:
        self.name = peer.name
        self._client = client
        self._peer = peer
        self._ae_title = ae_title

    def find(self, where: Mapping[str, str], since: date, until: date | None) -> Iterable[FoundStudy]:
        """The studies that match, by Study Date."""
        return self._client.find_studies(self._peer, where, since, until)

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
        return WebArchive(WebClient(tls=tls), WebPeer(source.name, source.url or "", token), marked, incoming)
    peer = DimsePeer(source.name, source.ae_title or "", source.host or "", source.port or 0, source.tls)
    client = QueryClient(Caller(node.ae_title, ARCHIVE_SECONDS, tls))
    if source.retrieve == "get":
        return GettingArchive(client, peer, marked, incoming)
    return MovingArchive(client, peer, node.ae_title)


def tls_of(settings: NodeSettings) -> TLSConfig | None:
    """Our certificate, if there is one."""
    tls = settings.tls
    return TLSConfig(tls.certificate, tls.key, tls.trusted) if tls is not None else None
