"""`Caller`: opens associations, and says in words what went wrong.

Keeping pynetdicom's own thread of an association from taking a response that the sender waits for.

Each association has a thread that serves what the peer asks. A sender stops it while it waits for a response, but
pynetdicom 3.0 takes it for stopped a moment too early: on a busy machine it may still take one message, which is the
response. The sender then waits in vain, and sends again what the peer has already.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from mammoscope.network.acceptor import LONGEST_READ, MAX_PDU, receive_whole
from mammoscope.network.errors import (
    AssociationRejectedError,
    CertificateError,
    ConnectionLostError,
    ContextNotAcceptedError,
    NetworkError,
    NoTLSError,
    PeerUnreachableError,
    TLSConfigError,
)
from mammoscope.network.peers import DimsePeer
from mammoscope.network.tls import TLSConfig

_LOOK_SECONDS = 0.05


class _Checkpoint(threading.Event):
    """Where the serving thread waits, and which tells when it does."""

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self.reached.set()
        return super().wait(timeout)


def make_pausable(association: Association) -> None:
    """Have `pause` work for an association of ours."""
    association._reactor_checkpoint = _Checkpoint()


def pause(association: Association) -> None:
    """Wait until the serving thread has stopped; what sends next uses it afterwards."""
    checkpoint = association._reactor_checkpoint
    if not isinstance(checkpoint, _Checkpoint):
        return
    checkpoint.reached.clear()
    checkpoint.clear()
    while not checkpoint.reached.wait(_LOOK_SECONDS):
        if not association.is_alive():
            return


MaySend = Callable[[], bool]
"""Whether what is to be sent is still ours to send; asked before each piece of it."""

CONNECT_SECONDS = 30.0

ALERT_WAIT_SECONDS = 2.0
"""How long a peer that takes our TLS handshake is given to say that it does not like our certificate (TLS 1.3)."""


class Caller:
    """Calls peers by DICOM, plain or by mutual TLS.

    Parameters
    ----------
    ae_title
        What we call ourselves.
    timeout_seconds
        How long to wait for the answer to the association request and for each response; for a connection at most
        `CONNECT_SECONDS`.
    tls
        Our certificate, for peers that are called by TLS.
    """

    def __init__(self, ae_title: str, timeout_seconds: float = 30.0, tls: TLSConfig | None = None) -> None:
        self._ae = AE(ae_title)
        self._ae.connection_timeout = min(timeout_seconds, CONNECT_SECONDS)
        self._ae.acse_timeout = timeout_seconds
        self._ae.dimse_timeout = timeout_seconds
        self._ae.maximum_pdu_size = MAX_PDU
        self._timeout = timeout_seconds
        self._tls = tls

    @property
    def ae_title(self) -> str:
        """What we call ourselves."""
        return self._ae.ae_title

    @contextmanager
    def associated(
        self,
        peer: DimsePeer,
        contexts: Sequence[PresentationContext],
        *,
        roles: Sequence[Any] = (),
        handlers: Sequence[evt.EventHandlerType] = (),
        may_send: MaySend | None = None,
    ) -> Iterator[Association]:
        """Open an association and release it at the end.

        Parameters
        ----------
        roles
            Role selection items (DICOM PS3.7 D.3.3.4), where we are not the one who asks.
        may_send
            Once it says no, not one more byte goes out: the connection is closed, and the peer drops what it has of an
            object.

        Raises
        ------
        PeerUnreachableError
            If nothing listens there.
        NoTLSError
            If somebody listens, but not in TLS.
        CertificateError
            If one party does not trust the other's certificate.
        AssociationRejectedError, ContextNotAcceptedError, ConnectionLostError
            If the association is rejected, or of no use, or there is no answer.
        """
        connected: list[bool] = []

        def on_connection(event: evt.Event) -> None:
            connected.append(True)
            _want_whole_answers(event.assoc, self._timeout)

        context = self._tls_context(peer)
        try:
            association = self._ae.associate(
                peer.host,
                peer.port,
                contexts=list(contexts),
                ae_title=peer.ae_title,
                ext_neg=list(roles),
                evt_handlers=[(evt.EVT_CONN_OPEN, on_connection), *handlers],
                tls_args=(context, peer.host) if context is not None else None,
            )
        except OSError as error:
            raise _unreachable(peer, error) from None
        if not association.is_established:
            raise self._why_not(association, peer, context, connected=bool(connected))
        make_pausable(association)
        if may_send is not None:
            _close_when_not(may_send, association)
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def _tls_context(self, peer: DimsePeer) -> ssl.SSLContext | None:
        if not peer.tls:
            return None
        if self._tls is None:
            raise TLSConfigError(f"{peer} is to be called by TLS, but we have no certificate; give one under [tls]")
        return self._tls.calling()

    def _why_not(
        self, association: Association, peer: DimsePeer, context: ssl.SSLContext | None, *, connected: bool
    ) -> NetworkError:
        if association.is_rejected:
            answer = association.acceptor.primitive
            reason = answer.reason_str.lower().replace("ae title", "AE title") if answer else "no reason given"
            return AssociationRejectedError(
                f"{peer} rejected the association: {reason}; check both AE titles and that it knows {self.ae_title}"
            )
        if association.rejected_contexts:
            return ContextNotAcceptedError(
                f"{peer} accepts none of the SOP classes offered; give {self.ae_title} the right to store there"
            )
        if context is not None:  # pynetdicom does not tell why a handshake failed: have another one
            trouble = why_no_tls(peer, context, self._timeout)
            if trouble is not None:
                return trouble
        if not connected:
            return _unreachable(peer)
        return ConnectionLostError(
            f"{peer} let us connect but did not answer the association request; check that a DICOM service listens on"
            f" that port, {'by TLS' if peer.tls else 'without TLS'}"
        )


def _close_when_not(may_send: MaySend, association: Association) -> None:
    transport = association.dul.socket
    if transport is None:  # it ended already
        return
    send = transport.send

    def send_if_allowed(bytestream: bytes) -> None:
        if may_send():
            send(bytestream)
        else:
            transport.close()

    transport.send = send_if_allowed  # type: ignore[method-assign]


def _want_whole_answers(association: Association, seconds: float) -> None:
    """Have each PDU of the peer be whole so long after its first byte, and no longer than agreed.

    pynetdicom's own time-outs end the waiting for an answer, and not the reading of one that drips.
    """
    transport = association.dul.socket
    if transport is None:
        return

    def recv(nr_bytes: int) -> bytearray:
        if nr_bytes > LONGEST_READ:
            raise OSError(f"a PDU of {nr_bytes} bytes is longer than agreed")
        connection = transport.socket
        if connection is None:
            raise ConnectionError("the connection is closed")
        connection.settimeout(seconds)
        try:
            return receive_whole(connection, nr_bytes, time.monotonic() + seconds)
        finally:
            connection.settimeout(None)

    transport.recv = recv  # type: ignore[method-assign]


def why_no_tls(peer: DimsePeer, context: ssl.SSLContext, timeout_seconds: float) -> NetworkError | None:
    """Try a TLS handshake with a peer, and tell what is wrong with it, or ``None`` when nothing is."""
    try:
        connection = socket.create_connection((peer.host, peer.port), timeout_seconds)
    except OSError as error:
        return _unreachable(peer, error)
    with connection:
        try:
            secure = context.wrap_socket(connection, server_hostname=peer.host)
        except OSError as error:
            return _tls_trouble(peer, error)
    with secure:
        try:
            secure.settimeout(min(ALERT_WAIT_SECONDS, timeout_seconds))
            secure.recv(1)
        except TimeoutError:  # a peer that waits for our association request is content with us
            return None
        except OSError as error:
            return _tls_trouble(peer, error)
    return None


def _tls_trouble(peer: DimsePeer, error: OSError) -> NetworkError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError(
            f"{peer} shows a certificate that we do not trust: {error.verify_message}; renew it, or add who signed it"
            " to our trusted certificates"
        )
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if "ALERT" in reason and "PROTOCOL_VERSION" not in reason:
        return CertificateError(
            f"{peer} refuses our certificate ({reason.lower().replace('_', ' ')}); have it trust who signed ours"
        )
    return NoTLSError(
        f"{peer} does not answer in TLS 1.2 or newer; check its TLS port, or call it without TLS if the network is"
        " trusted"
    )


def _unreachable(peer: DimsePeer, error: OSError | None = None) -> PeerUnreachableError:
    if error is None:
        words = "no connection was made; check that it runs, its address and the firewall"
    else:
        words = f"{error.strerror or error}; check its address"
    return PeerUnreachableError(f"{peer} cannot be reached: {words}")
