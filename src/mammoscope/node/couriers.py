"""How each destination of the settings is sent to, and asked whether it will keep what it was sent."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mammoscope.network import (
    Caller,
    CommitmentClient,
    CommitmentReports,
    DimsePeer,
    Instance,
    Peer,
    Sender,
    Sending,
    ServiceError,
    WebPeer,
)
from mammoscope.node.archives import tls_of
from mammoscope.node.delivery import Confirm, Send
from mammoscope.settings import DestinationSettings, NodeSettings, SourceSettings, Transport


def peer_of(settings: DestinationSettings | SourceSettings) -> Peer:
    """A destination or source as the network takes it.

    Raises
    ------
    ServiceError
        If the settings do not say how to speak to it.
    """
    if settings.transport is Transport.DICOMWEB and settings.url is not None:
        token = settings.token.get_secret_value() if settings.token is not None else None
        return WebPeer(settings.name, settings.url, token)
    if settings.ae_title is None or settings.host is None or settings.port is None:
        raise ServiceError(f"the destination '{settings.name}' has no AE title, host and port to send to")
    return DimsePeer(settings.name, settings.ae_title, settings.host, settings.port, tls=settings.tls)


def sender_for(destination: DestinationSettings, settings: NodeSettings) -> Send:
    """What sends to a destination.

    Raises
    ------
    ServiceError
        If the settings do not say how.
    TLSConfigError
        If our certificate cannot be used.
    """
    peer = peer_of(destination)
    sender = Sender(settings.node.ae_title, tls=tls_of(settings))

    def send(files: Sequence[Path], on_sent: Callable[[str], None]) -> tuple[Sending, ...]:
        return sender.send(files, peer, on_sent)

    return send


def confirmer_for(
    destination: DestinationSettings, settings: NodeSettings, reports: CommitmentReports
) -> Confirm | None:
    """What asks a destination for storage commitment; ``None`` if it is not to be asked.

    Parameters
    ----------
    reports
        Those that arrive on our own port.
    """
    peer = peer_of(destination)
    if not destination.commitment or not isinstance(peer, DimsePeer):
        return None
    client = CommitmentClient(Caller(settings.node.ae_title, tls=tls_of(settings)), reports)

    def confirm(instances: Sequence[Instance]) -> Mapping[str, str]:
        report = client.ask(peer, instances)
        uids = [instance.sop_instance_uid for instance in instances]
        reasons = {uid: report.failed.get(uid, 0) for uid in uids if uid not in report.committed}
        return {
            uid: f"{peer} did not commit to keep object {uid} (failure reason 0x{reason:04X})"
            for uid, reason in reasons.items()
        }

    return confirm


def dimse_peers(settings: NodeSettings) -> Mapping[str, DimsePeer]:
    """Those that are spoken to by DICOM, by AE title."""
    peers = [peer_of(source) for source in settings.sources] + [peer_of(d) for d in settings.destinations]
    return {peer.ae_title: peer for peer in peers if isinstance(peer, DimsePeer)}
