"""`HL7Client`: sends HL7 v2 messages by MLLP (HL7 Transport Specification: MLLP, Release 1), and reads the answers."""

import asyncio
import ssl
from collections.abc import Awaitable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import hl7
from hl7.mllp import HL7StreamReader, HL7StreamWriter, open_hl7_connection

from mammoscope.network.errors import ConnectionLostError, MessageRefusedError, PeerUnreachableError
from mammoscope.network.tls import TLSConfig

ACCEPTED = ("AA", "CA")
"""Acknowledgment codes (HL7 table 0008) of a message that was taken."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HL7Peer:
    """A system that takes HL7 v2 messages, such as a RIS.

    Parameters
    ----------
    name
        What our settings call it.
    application, facility
        What it calls itself (MSH-5, MSH-6); empty where it does not care.
    tls
        Whether it is called by TLS.
    """

    name: str
    host: str
    port: int
    application: str = ""
    facility: str = ""
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.name} (HL7 at {self.host} port {self.port}{' by TLS' if self.tls else ''})"


class HL7Client:
    """Sends messages, each over a connection of its own, and waits for the answer to each.

    Parameters
    ----------
    timeout_seconds
        How long the connection, and then the answer, may take.
    tls
        Our certificate and whom we trust, for peers that are called by TLS.
    """

    def __init__(self, timeout_seconds: float = 30.0, tls: TLSConfig | None = None) -> None:
        self._seconds = timeout_seconds
        self._tls = tls

    def connect(self, peer: HL7Peer) -> None:
        """See that somebody listens there, and say nothing.

        Raises
        ------
        PeerUnreachableError
            If nobody does.
        """
        asyncio.run(self._converse(peer, None))

    def send(self, message: hl7.Message, peer: HL7Peer) -> None:
        """Send a message, and return once the peer took it.

        Raises
        ------
        PeerUnreachableError
            If nobody listens there.
        ConnectionLostError
            If no answer came, or none to this message.
        MessageRefusedError
            If the peer did not take it. Its own words are not kept: they may name the patient.
        """
        answer = asyncio.run(self._converse(peer, message))
        assert answer is not None
        try:
            code, answered = str(answer["MSA.F1"]), str(answer["MSA.F2"])
        except (KeyError, IndexError):
            raise ConnectionLostError(f"{peer} answered with something that is no acknowledgment") from None
        if answered != str(message["MSH.F10"]):
            raise ConnectionLostError(f"{peer} acknowledged another message than the one it was sent")
        if code not in ACCEPTED:
            raise MessageRefusedError(f"{peer} refused the message ({_code(code)}); its own log says why")

    async def _converse(self, peer: HL7Peer, message: hl7.Message | None) -> hl7.Message | None:
        context = self._context(peer)
        try:
            reader, writer = await self._in_time(_connected(peer, context))
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise PeerUnreachableError(
                f"{peer} cannot be reached ({reason}); check its address, and that it runs"
            ) from None
        with closing(writer):
            if message is None:
                return None
            try:
                writer.writemessage(message)
                await self._in_time(writer.drain())
                return await self._in_time(reader.readmessage())
            except (OSError, TimeoutError, EOFError, ValueError, hl7.HL7Exception):
                raise ConnectionLostError(f"{peer} ended the connection or fell silent before it answered") from None

    async def _in_time(self, wanted: Awaitable[T]) -> T:
        return await asyncio.wait_for(wanted, self._seconds)

    def _context(self, peer: HL7Peer) -> ssl.SSLContext | None:
        if not peer.tls:
            return None
        return self._tls.calling_https() if self._tls is not None else ssl.create_default_context()


async def _connected(peer: HL7Peer, context: ssl.SSLContext | None) -> tuple[HL7StreamReader, HL7StreamWriter]:
    streams: tuple[HL7StreamReader, HL7StreamWriter] = await open_hl7_connection(
        peer.host, peer.port, encoding="utf-8", ssl=context
    )
    return streams


def _code(code: str) -> str:
    """An acknowledgment code as it may be shown."""
    return code if code in ("AE", "AR", "CE", "CR") else "an unknown code"
