"""`Sender`: sends objects to a destination whichever way it is spoken to."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mammoscope.network.peers import Peer, WebPeer
from mammoscope.network.storage_client import Sending, StorageClient
from mammoscope.network.tls import TLSConfig
from mammoscope.network.web_client import WebClient


class Sender:
    """Sends by C-STORE, plain or by TLS, or by STOW-RS.

    Parameters
    ----------
    ae_title
        What we call ourselves.
    tls
        Our certificate and whom we trust.
    """

    def __init__(self, ae_title: str, timeout_seconds: float = 30.0, tls: TLSConfig | None = None) -> None:
        self._dimse = StorageClient(ae_title, timeout_seconds, tls)
        self._web = WebClient(timeout_seconds, tls)

    def send(
        self, objects: Sequence[Path], destination: Peer, on_sent: Callable[[str], None] | None = None
    ) -> tuple[Sending, ...]:
        """Send files, in order; return one outcome for each.

        Parameters
        ----------
        on_sent
            By DICOM: called with the SOP Instance UID of each object as soon as it is acknowledged. By DICOMweb all are
            acknowledged at once.

        Raises
        ------
        NetworkError
            If the destination cannot be spoken to, and so nothing was sent.
        """
        if isinstance(destination, WebPeer):
            return self._web.send(objects, destination)
        return self._dimse.send(objects, destination, on_sent)

    def check(self, peer: Peer) -> None:
        """See that a peer is there and lets us in, by C-ECHO or by a query for one study.

        Raises
        ------
        NetworkError
            If not.
        """
        if isinstance(peer, WebPeer):
            self._web.check(peer)
        else:
            self._dimse.echo(peer)
