"""HL7 by MLLP against a listener of the library's own, which answers as it is told to."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hl7
import pytest
from hl7.mllp import HL7StreamReader, HL7StreamWriter, start_hl7_server

from mammoscope.network import (
    ConnectionLostError,
    HL7Client,
    HL7Peer,
    MessageRefusedError,
    NetworkError,
    PeerUnreachableError,
)

MESSAGE = hl7.parse("MSH|^~\\&|MAMMOSCOPE||RIS||20260103||ORU^R01^ORU_R01|ID-1|P|2.5.1\rPID|1||P-1||Dœ^Jane\r")


@contextmanager
def listener(
    answer: Callable[[hl7.Message], object], context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[hl7.Message]]]:
    """A listener; its port, and what it got."""
    got: list[hl7.Message] = []
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def serve(reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        try:
            got.append(await reader.readmessage())
        except asyncio.IncompleteReadError:
            writer.close()
            return
        said = answer(got[-1])
        if isinstance(said, hl7.Message):
            writer.writemessage(said)
        elif isinstance(said, bytes):
            writer.write(said)
        if said is not None:
            writer.close()

    async def start() -> asyncio.Server:
        return await start_hl7_server(serve, "127.0.0.1", 0, encoding="utf-8", ssl=context)

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(start())
        port.append(server.sockets[0].getsockname()[1])
        ready.set()
        loop.run_forever()
        server.close()

    port: list[int] = []
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield port[0], got
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


def peer(port: int, *, tls: bool = False) -> HL7Peer:
    return HL7Peer("ris", "127.0.0.1", port, "RIS", "", tls=tls)


def test_a_message_arrives_whole_and_is_acknowledged():
    with listener(lambda message: message.create_ack("AA")) as (port, got):
        HL7Client(10).send(MESSAGE, peer(port))
    assert [str(message) for message in got] == [str(MESSAGE)]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda m: m.create_ack("AE"), MessageRefusedError, "ris .* refused the message .AE.; its own log says why"),
        (lambda m: m.create_ack("AR"), MessageRefusedError, "AR"),
        (lambda m: hl7.parse(str(m.create_ack("AA")).replace("ID-1", "ID-2")), ConnectionLostError, "another message"),
        (lambda _: b"\x0bhello\x1c\r", ConnectionLostError, "before it answered"),
        (lambda _: b"", ConnectionLostError, "ended the connection"),
        (lambda _: None, ConnectionLostError, "fell silent"),
    ],
    ids=["error", "rejected", "of another", "nonsense", "hangs up", "silent"],
)
def test_what_is_no_acceptance_is_an_error(answer, error: type[NetworkError], words: str):
    with listener(answer) as (port, _), pytest.raises(error, match=words) as raised:
        HL7Client(1).send(MESSAGE, peer(port))
    assert raised.value.worth_retrying is (error is not MessageRefusedError)
    assert "Jane" not in str(raised.value)


def test_a_listener_that_is_away_is_tried_again_later(free_ports):
    [port] = free_ports(1)
    with pytest.raises(PeerUnreachableError, match="cannot be reached"):
        HL7Client(5).send(MESSAGE, peer(port))
    with listener(lambda message: message.create_ack("AA")) as (there, got):
        HL7Client(5).connect(peer(there))
    assert got == []


def test_by_tls_with_certificates_of_one_authority(certificates):
    tls = certificates.issue("node")
    with listener(lambda m: m.create_ack("AA"), certificates.issue("ris").serving_https()) as (port, got):
        HL7Client(10, tls).send(MESSAGE, peer(port, tls=True))
        with pytest.raises(NetworkError):
            HL7Client(5).send(MESSAGE, peer(port, tls=True))  # whom this machine trusts: nobody of the hospital
    assert len(got) == 1
