"""`Sender`: sends objects to a destination whichever way it is spoken to.

`StudySource`: an archive that studies are fetched from into this process, whichever protocol it speaks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

from mammoscope.network.association import Caller, MaySend
from mammoscope.network.c_store_scu import Sending, StorageClient
from mammoscope.network.dicomweb import WebClient
from mammoscope.network.peers import Peer, WebPeer, lost
from mammoscope.network.query_retrieve import FoundStudy, QueryClient, Retrieval
from mammoscope.network.received import Receiver
from mammoscope.network.tls import TLSConfig


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
        self,
        objects: Sequence[Path],
        destination: Peer,
        on_sent: Callable[[str], None] | None = None,
        may_send: MaySend | None = None,
    ) -> tuple[Sending, ...]:
        """Send files, in order; return one outcome for each.

        Parameters
        ----------
        on_sent
            By DICOM: called with the SOP Instance UID of each object as soon as it is acknowledged. By DICOMweb all are
            acknowledged at once.
        may_send
            Asked by DICOM before each piece, by DICOMweb before the request; when it says no, nothing more is sent.

        Raises
        ------
        NetworkError
            If the destination cannot be spoken to, and so nothing was sent.
        """
        if isinstance(destination, WebPeer):
            if may_send is not None and not may_send():
                raise lost(destination, "the objects")
            return self._web.send(objects, destination)
        return self._dimse.send(objects, destination, on_sent, may_send)

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


ARCHIVE_SECONDS = 120.0
"""How long an archive may be silent: one that has a study on tape answers late."""


class StudySource:
    """Finds by QIDO-RS and fetches by WADO-RS, or by C-FIND and C-GET.

    Parameters
    ----------
    ae_title
        What we call ourselves, where the archive speaks DICOM only.
    tls
        Our certificate and whom we trust.
    """

    def __init__(
        self, peer: Peer, ae_title: str, tls: TLSConfig | None = None, timeout_seconds: float = ARCHIVE_SECONDS
    ) -> None:
        self.peer = peer
        self._web = WebClient(timeout_seconds, tls)
        self._dimse = QueryClient(Caller(ae_title, timeout_seconds, tls))

    def find(self, where: Mapping[str, str], since: date | None, until: date | None) -> Iterable[FoundStudy]:
        """Ask for studies; see `WebClient.find_studies`.

        Raises
        ------
        QueryError
            If a keyword is unknown.
        NetworkError
            If the archive cannot be asked, or answers with an error.
        """
        if isinstance(self.peer, WebPeer):
            return self._web.find_studies(self.peer, where, since, until)
        return self._dimse.find_studies(self.peer, where, since, until)

    def fetch(self, study: str, receive: Receiver, folder: Path) -> Retrieval:
        """Fetch all objects of a study; see `WebClient.retrieve`.

        Raises
        ------
        NetworkError
            If the archive cannot be asked, answers with an error or breaks off.
        """
        if isinstance(self.peer, WebPeer):
            return self._web.retrieve(self.peer, study, receive, folder)
        return self._dimse.get(self.peer, study, receive, folder)
