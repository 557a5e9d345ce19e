"""`SyslogClient`: syslog messages (RFC 5424) by UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425)."""

import select
import socket
import ssl
from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from urllib.parse import urlsplit

from mammoscope.lifecycle import Closing
from mammoscope.network.errors import PeerUnreachableError

SECURITY_FACILITY = 10
"""The facility of audit messages (DICOM PS3.15 A.6)."""
LONGEST_DATAGRAM = 65507
"""Bytes of a UDP datagram over IPv4."""

_BOM = b"\xef\xbb\xbf"
_SETTLE_SECONDS = 0.2


class Severity(IntEnum):
    """The two that DICOM PS3.15 A.6 names for audit messages."""

    WARNING = 4
    NOTICE = 5


def syslog_message(
    text: str, *, at: datetime, host: str, program: str, process: int, kind: str, severity: Severity = Severity.NOTICE
) -> bytes:
    r"""One message of RFC 5424, without structured data, its text as UTF-8.

    Parameters
    ----------
    kind
        The MSGID.

    Examples
    --------
    >>> from datetime import UTC
    >>> syslog_message("hi", at=datetime(2026, 1, 2, tzinfo=UTC), host="h", program="p", process=7, kind="K")
    b'<85>1 2026-01-02T00:00:00.000Z h p 7 K - \xef\xbb\xbfhi'
    """
    moment = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
    header = (
        f"<{SECURITY_FACILITY * 8 + severity}>1 {moment} {_token(host)} {_token(program)} {process} {_token(kind)} - "
    )
    return header.encode("ascii") + _BOM + text.encode("utf-8")


class SyslogClient(Closing):
    """Sends messages to one collector, and opens the connection anew when it was lost.

    Syslog acknowledges nothing. By TCP and TLS the connection is looked at before and after each call, so that a
    collector that is gone is noticed; what was on its way then is sent again. By UDP a loss goes unnoticed.

    Parameters
    ----------
    address
        ``udp://host:port``, ``tcp://host:port`` or ``tls://host:port``.
    tls
        How to speak TLS; ``None`` for the certificate authorities that this machine trusts.
    """

    def __init__(self, address: str, tls: ssl.SSLContext | None = None, timeout_seconds: float = 10.0) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("udp", "tcp", "tls") or parts.hostname is None or parts.port is None:
            raise ValueError(f"{address} is no syslog address")
        self._address = address
        self._scheme, self._host, self._port = parts.scheme, parts.hostname, parts.port
        self._tls = tls
        self._timeout = timeout_seconds
        self._socket: socket.socket | None = None

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages in order; on an error it is unknown how many of them arrived.

        Raises
        ------
        PeerUnreachableError
            If the collector cannot be reached or ended the connection; the next call connects anew.
        """
        try:
            connection = self._connected()
            for message in messages:
                if self._scheme == "udp":
                    connection.send(message[:LONGEST_DATAGRAM])
                else:
                    connection.sendall(b"%d %s" % (len(message), message))
            if self._scheme != "udp" and _is_closed(connection, _SETTLE_SECONDS):
                raise ConnectionResetError("it ended the connection")
        except OSError as error:
            self.close()
            reason = error.strerror or str(error) or type(error).__name__
            raise PeerUnreachableError(
                f"the audit collector {self._address} takes no messages ({reason}); check [audit] syslog, and that"
                " it runs"
            ) from None

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._scheme != "udp" and _is_closed(self._socket, 0.0):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
        return self._socket

    def _connect(self) -> socket.socket:
        if self._scheme == "udp":
            family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            datagrams = socket.socket(family, kind, protocol)
            datagrams.connect(address)
            return datagrams
        connection = socket.create_connection((self._host, self._port), self._timeout)
        if self._scheme == "tcp":
            return connection
        try:
            context = self._tls or ssl.create_default_context()
            return context.wrap_socket(connection, server_hostname=self._host)
        except BaseException:
            connection.close()
            raise


def _is_closed(connection: socket.socket, wait_seconds: float) -> bool:
    """Whether the peer ended the connection, as far as can be seen within that time."""
    readable, _, _ = select.select([connection], [], [], wait_seconds)
    if not readable:
        return False
    before = connection.gettimeout()
    connection.settimeout(0.0)
    try:
        return connection.recv(4096) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    finally:
        connection.settimeout(before)


def _token(text: str) -> str:
    """A header field: printable ASCII without spaces, never empty."""
    return "".join(c for c in text if "!" <= c <= "~")[:48] or "-"
