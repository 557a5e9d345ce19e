"""Whom we speak to: by DICOM's own protocol or by DICOMweb."""

from dataclasses import dataclass, field
from typing import TypeAlias


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
