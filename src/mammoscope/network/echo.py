"""Trying a peer without giving it anything to keep: whether it is there and would take what we would send."""

import http.client
import json
import socket
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import build_context

from mammoscope.network.association import Caller
from mammoscope.network.errors import (
    CertificateError,
    ContextNotAcceptedError,
    NetworkError,
    NoTLSError,
    PeerUnreachableError,
    StatusError,
)
from mammoscope.network.peers import DimsePeer, WebPeer, check_status
from mammoscope.network.sop_classes import VERIFICATION
from mammoscope.network.tls import TLSConfig

_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_BOUNDARY = "mammoscope-check"
# What a server may answer to a store request without objects: it was let in, and found nothing to store.
_LET_IN = frozenset((200, 202, 204, 400, 409, 415, 422))


def resolve(host: str, port: int) -> str:
    """Look up the first address of a host.

    Raises
    ------
    PeerUnreachableError
        If the name is not known.
    """
    try:
        return str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise PeerUnreachableError(
            f"the name {host} cannot be resolved ({error.strerror}); check its spelling and the DNS of this machine"
        ) from None


def try_listening(host: str, port: int) -> None:
    """Listen for a moment.

    Raises
    ------
    OSError
        If one cannot.
    """
    [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    socket.create_server(address[:2], family=family).close()


def echo(caller: Caller, peer: DimsePeer) -> None:
    """C-ECHO (DICOM PS3.7 9.1.5).

    Raises
    ------
    NetworkError
        See `Caller.associated`; or `StatusError`.
    """
    with caller.associated(peer, [build_context(VERIFICATION)]) as association:
        answer = association.send_c_echo()
    check_status(answer, peer, "the echo")


def not_accepted(caller: Caller, peer: DimsePeer, sop_classes: Sequence[UID]) -> tuple[UID, ...]:
    """Those SOP classes whose presentation contexts the peer does not accept, uncompressed; nothing is sent.

    Raises
    ------
    NetworkError
        If there is no association; see `Caller.associated`.
    """
    wanted = list(dict.fromkeys(sop_classes))
    try:
        with caller.associated(peer, [build_context(uid, list(_NATIVE)) for uid in wanted]) as association:
            accepted = {context.abstract_syntax for context in association.accepted_contexts}
    except ContextNotAcceptedError:
        return tuple(wanted)
    return tuple(uid for uid in wanted if uid not in accepted)


def query_web(peer: WebPeer, tls: TLSConfig | None, timeout_seconds: float = 30.0) -> None:
    """Ask for one study by QIDO-RS (DICOM PS3.18 10.6).

    Raises
    ------
    NetworkError
        If it is not reached, does not let us in, or answers anything but DICOM JSON.
    """
    status, kind, body = _request(peer, "GET", "/studies?limit=1", tls, timeout_seconds)
    _check_let_in(peer, status, "a query (QIDO-RS)")
    if status == http.HTTPStatus.NO_CONTENT:
        return
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if status != http.HTTPStatus.OK or not isinstance(found, list):
        raise StatusError(
            f"{peer} answers a query (QIDO-RS) with status {status} and {kind or 'no type'} instead of DICOM JSON;"
            " check that the address is the root of its DICOMweb service",
            status,
        )


def may_store_web(peer: WebPeer, tls: TLSConfig | None, timeout_seconds: float = 30.0) -> None:
    """Make a store request without objects (STOW-RS, DICOM PS3.18 10.5), to learn whether we would be let in.

    Raises
    ------
    NetworkError
        If it is not reached, does not let us in, or has no such service.
    """
    status, _, _ = _request(peer, "POST", "/studies", tls, timeout_seconds, body=f"--{_BOUNDARY}--\r\n".encode())
    _check_let_in(peer, status, "a store request (STOW-RS)")
    if status not in _LET_IN:
        raise StatusError(
            f"{peer} answers a store request (STOW-RS) with status {status}; check that storing is switched on there",
            status,
        )


def _check_let_in(peer: WebPeer, status: int, what: str) -> None:
    if status == http.HTTPStatus.UNAUTHORIZED:
        raise StatusError(f"{peer} does not know who we are (401) for {what}; check the token in our settings", status)
    if status == http.HTTPStatus.FORBIDDEN:
        raise StatusError(f"{peer} does not allow us (403) {what}; give our token that right there", status)
    if status == http.HTTPStatus.NOT_FOUND:
        raise StatusError(
            f"{peer} has nothing there (404) for {what}; check that the address is the root of its DICOMweb service",
            status,
        )


def _request(
    peer: WebPeer, method: str, path: str, tls: TLSConfig | None, timeout_seconds: float, body: bytes | None = None
) -> tuple[int, str, bytes]:
    parts = urlsplit(peer.url)
    host = parts.hostname or ""
    headers = {"Accept": "application/dicom+json"}
    if peer.token is not None:
        headers["Authorization"] = f"Bearer {peer.token}"
    if body is not None:
        headers["Content-Type"] = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=timeout_seconds, context=_context(tls))
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=timeout_seconds)
    )
    try:
        connection.request(method, parts.path + path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise _trouble(peer, error) from None
    finally:
        connection.close()


def _context(tls: TLSConfig | None) -> ssl.SSLContext:
    return ssl.create_default_context() if tls is None else tls.calling_https()


def _trouble(peer: WebPeer, error: Exception) -> NetworkError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError(
            f"{peer} shows a certificate that we do not trust: {error.verify_message}; renew it, or add who signed it"
            " to our trusted certificates"
        )
    if isinstance(error, ssl.SSLError):
        return NoTLSError(f"{peer} does not speak https; check the port, or write http:// if the network is trusted")
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return PeerUnreachableError(f"{peer} cannot be reached: {words}; check its address, that it runs and the firewall")
