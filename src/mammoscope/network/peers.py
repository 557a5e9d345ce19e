"""Whom we speak to: by DICOM's own protocol or by DICOMweb.

What a peer's answer means (DICOM PS3.7 Annex C, PS3.4 Table B.2-1).
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from pydicom import Dataset
from pynetdicom.status import code_to_category

from mammoscope.network.errors import ConnectionLostError, StatusError


@dataclass(frozen=True, slots=True)
class DimsePeer:
    """A peer spoken to by DICOM associations.

    Parameters
    ----------
    name
        What our settings call it.
    tls
        Whether it is called by TLS.
    """

    name: str
    ae_title: str
    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.ae_title} at {self.host} port {self.port}{' by TLS' if self.tls else ''})"


@dataclass(frozen=True, slots=True)
class WebPeer:
    """A peer spoken to by DICOMweb.

    Parameters
    ----------
    url
        The root of its service, for example ``https://pacs/dicom-web``.
    token
        Sent as a bearer token (RFC 6750).
    """

    name: str
    url: str
    token: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.url})"


Peer: TypeAlias = DimsePeer | WebPeer
"""Anyone we speak to."""

Destination = DimsePeer
"""A peer that takes objects by C-STORE."""


_WORDS = {
    0x0111: "it has another object with this SOP Instance UID already; delete that one there",
    0x0117: "it takes no object of this SOP Instance UID; its own log says why",
    0x0120: "it misses an attribute; its own log says which",
    0x0122: "it does not take this SOP class; allow it there",
    0x0124: "it does not allow it; give our AE title the right to store there",
    0xA801: "it does not know where to move to; enter our AE title, address and port there",
}
_WORDS_OF_A_KIND = {
    0xA7: "it is out of resources; make room there",
    0xA9: "the data set does not match its SOP class; its own log says which attribute it misses",
    0x02: "it does not do this service for us; give our AE title the right to it there",
    0x01: "it could not process the request; its own log says why, often an unknown patient or sender",
}


def check_status(answer: Dataset, peer: Peer, what: str) -> None:
    """Raise unless the answer is a success or a warning.

    Parameters
    ----------
    answer
        pynetdicom's: empty when none came.
    what
        Asked for, for example ``"object 1.2.3"``.

    Raises
    ------
    ConnectionLostError
        If there is none.
    StatusError
        If it is a failure, in our words for its status. The peer's own, its Error Comment, are not kept: many a PACS
        writes the patient's name into it.
    """
    status = answer.get("Status")
    if status is None:
        raise lost(peer, what)
    if code_to_category(status) not in ("Success", "Warning"):
        raise StatusError(f"{peer} refused {what} with status 0x{status:04X}: {in_words(status)}", status)


def in_words(status: int) -> str:
    """Say what a failure status means."""
    if status >> 12 == 0xC:
        return "it cannot understand it; its own log says which attribute or rule"
    return (
        _WORDS.get(status)
        or _WORDS_OF_A_KIND.get(status >> 8)
        or "a status that DICOM does not know; its own log says why"
    )


def lost(peer: Peer, what: str) -> ConnectionLostError:
    """Make the error of an association that ended without an answer."""
    return ConnectionLostError(
        f"{peer} ended the association or fell silent before it acknowledged {what}; if it does so each time, see there"
        " whether our AE title is allowed this"
    )
