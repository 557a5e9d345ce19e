"""One stranger who holds lines open, silent or dripping, never keeps anybody else out, and does not fill the log."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mammoscope.network import (
    CallerRefusal,
    Destination,
    StorageClient,
    StorageService,
    WebService,
    acceptor,
    http_server,
)
from mammoscope.network.access_control import MOST_TOLD_OF_ONE, RefusalReport, network_of

HALF_REQUEST = struct.pack(">BBL", 1, 0, 500) + bytes(20)


@contextmanager
def dripping(port: int, lines: int, said: bytes, every_seconds: float = 0.2) -> Iterator[list[socket.socket]]:
    """Open so many lines, say something on each and then a byte at a time, for ever."""
    with ExitStack() as stack:
        connections = []
        for _ in range(lines):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            connection.sendall(said)
            connections.append(connection)
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(every_seconds):
                for connection in connections:
                    try:
                        connection.send(b"x")
                    except OSError:
                        continue

        thread = threading.Thread(target=drip)
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        yield connections


def has_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while (said := connection.recv(1000)) != b"":
            if said[:1] == b"\x07":  # A-ABORT
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def test_two_hundred_dripping_lines_keep_nobody_out(tmp_path: Path, receiver) -> None:
    with StorageService("NODE", tmp_path, receiver) as service, dripping(service.port, 200, HALF_REQUEST):
        for _ in range(10):
            StorageClient("TESTER", timeout_seconds=20).echo(Destination("node", "NODE", "127.0.0.1", service.port))


def test_an_association_request_must_be_whole_in_time(tmp_path: Path, receiver, wait_until) -> None:
    """A drop each moment is no silence: what counts is when the whole request is there (DICOM PS3.8 9.1.2)."""
    with (
        StorageService("NODE", tmp_path, receiver, silence_seconds=2.0) as service,
        dripping(service.port, 5, HALF_REQUEST) as connections,
    ):
        begun = time.monotonic()
        wait_until(lambda: all(has_ended(connection) for connection in connections))
        assert time.monotonic() - begun < 15


def test_dripping_tls_handshakes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_SECONDS", 1.0)
    ours, theirs = socket.socketpair()
    ended: list[BaseException] = []

    def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        connection = context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
        try:
            acceptor._shake_hands(connection, time.monotonic() + acceptor.HANDSHAKE_SECONDS)
        except OSError as error:
            ended.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    theirs.sendall(b"\x16\x03\x01\x40\x00")  # a record of 16 KiB begins
    while thread.is_alive():
        theirs.send(b"\x00")
        time.sleep(0.1)
    assert isinstance(ended[0], TimeoutError)


def test_no_address_has_all_associations(tmp_path: Path, receiver) -> None:
    refusals: list[CallerRefusal] = []
    with StorageService("NODE", tmp_path, receiver, on_caller_refused=refusals.append) as service:
        ae = AE("HOARDER")
        ae.add_requested_context("1.2.840.10008.1.1")
        taken = [ae.associate("127.0.0.1", service.port, ae_title="NODE") for _ in range(17)]
        try:
            assert [a.is_established for a in taken] == [True] * acceptor.MOST_ASSOCIATIONS_OF_ONE + [False] * 2
            # Another address of this machine still gets in.
            neighbour = AE("NEIGHBOUR")
            neighbour.add_requested_context("1.2.840.10008.1.1")
            other = neighbour.associate("127.0.0.1", service.port, ae_title="NODE", bind_address=("127.0.0.9", 0))
            assert other.is_established
            other.release()
        finally:
            for association in taken:
                association.abort()
    assert {r.reason for r in refusals} == {"local limit exceeded"}


@pytest.fixture
def web() -> Iterator[WebService]:
    with WebService("127.0.0.1", 0, [Route("/healthz", lambda _: PlainTextResponse("alive"))]) as service:
        yield service


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: "])
def test_two_hundred_slow_web_connections_never_fail_the_health_page(web: WebService, said: bytes) -> None:
    with dripping(web.port, 200, said):
        for _ in range(10):
            assert httpx.get(f"{web.url}/healthz", timeout=20).status_code == 200


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_slow_web_request_is_answered_408(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 1.0)
    with (
        WebService("127.0.0.1", 0, [Route("/healthz", lambda _: PlainTextResponse("alive"))]) as web,
        socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection,
    ):
        connection.sendall(said)
        answer = b""
        while piece := connection.recv(1000):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_second_request_on_a_line_is_not_waited_for_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 1.0)
    with (
        WebService("127.0.0.1", 0, [Route("/healthz", lambda _: PlainTextResponse("alive"))]) as web,
        socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection,
    ):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /he")
        answer = b""
        while piece := connection.recv(1000):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


def test_thousands_of_refusals_are_few_lines() -> None:
    told: list[CallerRefusal] = []
    report = RefusalReport(told.append)
    for number in range(5000):
        report(CallerRefusal(f"EVE{number}", "10.0.0.9", "calling AE title not recognised"))
    report(CallerRefusal("ADAM", "10.0.0.8", "its address is not allowed"))
    report.flush()
    assert len(told) == MOST_TOLD_OF_ONE + 2
    assert sum(refusal.times for refusal in told) == 5001
    assert told[-2].peer == "ADAM"
    assert told[-1].address == "10.0.0.9"
    assert told[-1].reason == "4990 more calls were refused, most of them because calling AE title not recognised"


def test_many_addresses_do_not_fill_the_memory_either() -> None:
    told: list[CallerRefusal] = []
    report = RefusalReport(told.append, interval_seconds=0.5)
    for number in range(20000):
        report(CallerRefusal("", f"10.0.{number // 256}.{number % 256}", "its address is not allowed"))
    assert len(report._untold) < 200
    deadline = time.monotonic() + 20
    while sum(refusal.times for refusal in told) < 20000:
        assert time.monotonic() < deadline, "the summary did not come by itself"
        time.sleep(0.05)


def test_whose_an_address_is() -> None:
    assert network_of("10.0.0.7") == network_of("::ffff:10.0.0.7") == "10.0.0.7"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
