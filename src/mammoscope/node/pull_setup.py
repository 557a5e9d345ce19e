"""Pullers put together: for the pollers of a node, and for a command beside one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mammoscope.errors import MammoscopeError
from mammoscope.network import (
    AssociationRejectedError,
    ContextNotAcceptedError,
    DimsePeer,
    ObjectRefusedError,
    Receipt,
    ReceivedObject,
    Receiver,
    StatusError,
    StorageClient,
)
from mammoscope.network.received import SOP_CLASS_NOT_SUPPORTED
from mammoscope.node.archives import open_archive, tls_of
from mammoscope.node.pull_ledger import PullLedger
from mammoscope.node.pulling import Archive, Poller, Puller
from mammoscope.node.records import Records, StudyState
from mammoscope.settings import NodeSettings, SourceSettings, Transport

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

    def results_made(uid: str) -> int:
        study = records.study(uid)
        return sum(len(report.results) for report in study.reports) if study is not None else 0

    ledger = PullLedger(settings.node.storage / "pulled", source.name)
    return Puller(archive, ledger, busy=busy, results_made=results_made, stopping=stopping)


def _the_node_itself(settings: NodeSettings) -> DimsePeer:
    """The running node, as it is called from its own machine."""
    node, tls = settings.node, settings.tls
    port = node.port if node.plain else tls.port if tls is not None else None
    if not port:
        raise MammoscopeError("the settings give the node no fixed port to store into: set 'port' in [node]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(node.host, node.host)
    return DimsePeer("the node", node.ae_title, host, port, tls=not node.plain)
