"""What can go wrong between two DICOM nodes, told apart."""

from mammoscope.errors import MammoscopeError


class NetworkError(MammoscopeError):
    """A conversation with a peer that failed."""

    worth_retrying = True
    """Whether the same call may succeed later without anyone changing the object."""


class PeerUnreachableError(NetworkError):
    """No TCP connection to the peer, or nobody there who answers in DICOM."""


class CertificateError(NetworkError):
    """The peer's certificate is not one we trust, or the peer does not trust ours."""


class NoTLSError(NetworkError):
    """Somebody listens there, but not in TLS."""


class AssociationRejectedError(NetworkError):
    """The peer answered and rejected the association (DICOM PS3.8 Table 9-21)."""


class ContextNotAcceptedError(NetworkError):
    """The peer does not take this SOP class in any transfer syntax we offered."""


class ConnectionLostError(NetworkError):
    """The association ended, or the peer fell silent, before an answer came."""


class StatusError(NetworkError):
    """The peer answered with a failure status (DICOM PS3.4 Table B.2-1).

    Parameters
    ----------
    status
        For example 0xA700 (out of resources), 0xA900 (data set does not match SOP class), 0xC000 (cannot understand).
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def worth_retrying(self) -> bool:  # type: ignore[override]
        """Only a peer that is out of resources (0xA7xx) may change its mind about the same object."""
        return self.status & 0xFF00 == 0xA700


class UnsendableObjectError(NetworkError):
    """An object that cannot be encoded."""

    worth_retrying = False


class MessageRefusedError(NetworkError):
    """A message, of HL7 or of mail, that the peer answered and did not take."""

    worth_retrying = False


class ServiceError(NetworkError):
    """Our own service cannot start."""


class TLSConfigError(ServiceError):
    """Our own certificate, key or list of trusted certificates cannot be used."""

    worth_retrying = False


class ObjectRefusedError(NetworkError):
    """An object that we do not accept from a peer.

    Parameters
    ----------
    status
        What the peer is answered.
    comment
        What it is told beside the status, cut to 64 characters; ``None`` for the message.
    """

    def __init__(self, message: str, status: int, *, comment: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.comment = (comment or message)[:64]


class MultipartError(NetworkError):
    """A body that is no multipart body, or not a whole one."""


class WebStatusError(NetworkError):
    """A web server answered with an error.

    Parameters
    ----------
    status
        Of HTTP (RFC 9110), for example 404.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def worth_retrying(self) -> bool:  # type: ignore[override]
        """Not where the request itself is at fault; a token that is refused may be replaced."""
        return self.status >= 500 or self.status in (401, 403, 404, 408, 429)
