"""`StudySource`: an archive that studies are fetched from into this process, whichever protocol it speaks."""

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from mammoscope.network.caller import Caller
from mammoscope.network.peers import Peer, WebPeer
from mammoscope.network.query import QueryClient
from mammoscope.network.received import Receiver
from mammoscope.network.retrieval import FoundStudy, Retrieval
from mammoscope.network.tls import TLSConfig
from mammoscope.network.web_client import WebClient

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
