import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, FileDataset
from pydicom.uid import MammographyCADSRStorage, RLELossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import DigitalMammographyXRayImageStorageForPresentation as MgPresentation  # type: ignore

from mammoscope.network import (
    AssociationRejectedError,
    ConnectionLostError,
    ContextNotAcceptedError,
    Destination,
    NetworkError,
    PeerUnreachableError,
    StatusError,
    StorageClient,
)

MakeObject = Callable[..., FileDataset]
CLIENT = StorageClient("TESTER", timeout_seconds=3)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[evt.Event], int]], Destination]]:
    """A PACS that takes For Presentation mammograms uncompressed, nothing else, and answers as it is told."""
    entities: list[AE] = []

    def start(answer: Callable[[evt.Event], int]) -> Destination:
        ae = AE("PACS")
        ae.add_supported_context(MgPresentation)
        entities.append(ae)
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)])
        return Destination("pacs", "PACS", "127.0.0.1", server.server_address[1])

    yield start
    for ae in entities:
        ae.shutdown()


def test_nobody_there(free_port: int, make_object: MakeObject) -> None:
    destination = Destination("pacs", "PACS", "127.0.0.1", free_port)
    sentence = rf"pacs \(PACS at 127.0.0.1 port {free_port}\) cannot be reached"
    with pytest.raises(PeerUnreachableError, match=sentence):
        CLIENT.echo(destination)
    with pytest.raises(PeerUnreachableError, match=sentence):
        CLIENT.send([make_object()], destination)


def test_a_host_that_has_no_address() -> None:
    with pytest.raises(PeerUnreachableError, match="cannot be reached"):
        CLIENT.echo(Destination("pacs", "PACS", "no-such-host.invalid", 104))


def test_somebody_who_does_not_speak_dicom() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(ConnectionLostError, match="did not answer the association request"):
            CLIENT.echo(Destination("web", "PACS", "127.0.0.1", server.getsockname()[1]))
        thread.join(5)


def test_rejected_because_of_our_own_title(make_object: MakeObject) -> None:
    ae = AE("PACS")
    ae.require_calling_aet = ["SOMEONE"]
    ae.add_supported_context(MgPresentation)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        with pytest.raises(AssociationRejectedError, match=r"calling AE title not recognised.*it knows TESTER"):
            CLIENT.send([make_object()], Destination("pacs", "PACS", "127.0.0.1", server.server_address[1]))
    finally:
        ae.shutdown()


def test_an_object_not_taken_does_not_keep_the_others_back(peer, make_object: MakeObject) -> None:
    stored: list[str] = []
    destination = peer(lambda e: stored.append(e.request.AffectedSOPInstanceUID) or 0x0000)
    report, image = make_object(sop_class=MammographyCADSRStorage), make_object()
    refused, sent = CLIENT.send([report, image], destination)
    assert isinstance(refused.error, ContextNotAcceptedError)
    assert "does not accept Mammography CAD SR Storage in Explicit VR Little Endian" in str(refused.error)
    assert sent.error is None
    assert stored == [image.SOPInstanceUID]


def test_no_object_taken_at_all(peer, make_object: MakeObject) -> None:
    [refused] = CLIENT.send([make_object(sop_class=MammographyCADSRStorage)], peer(lambda _: 0x0000))
    assert isinstance(refused.error, ContextNotAcceptedError)


def test_an_encoding_not_taken(peer, make_object: MakeObject) -> None:
    image = make_object()
    image.compress(RLELossless, generate_instance_uid=False)
    [refused] = CLIENT.send([image], peer(lambda _: 0x0000))
    assert "in RLE Lossless" in str(refused.error)


@pytest.mark.parametrize(
    ("status", "words", "worth_retrying"),
    [
        (0xA700, "status 0xA700: it is out of resources", True),
        (0xA900, "status 0xA900: the data set does not match its SOP class", False),
        (0x0124, "status 0x0124: it does not allow it; give our AE title the right to store there", False),
        (0x0211, "status 0x0211: it does not do this service for us; give our AE title the right to it there", False),
        (0xC123, "status 0xC123: it cannot understand it", False),
    ],
)
def test_a_failure_status_in_words(
    peer, make_object: MakeObject, status: int, words: str, worth_retrying: bool
) -> None:
    image = make_object()
    [sending] = CLIENT.send([image], peer(lambda _: status))
    assert isinstance(sending.error, StatusError)
    assert sending.error.status == status
    assert words in str(sending.error)
    assert image.SOPInstanceUID in str(sending.error)
    assert sending.error.worth_retrying is worth_retrying


def test_a_warning_status_is_an_acknowledgement(peer, make_object: MakeObject) -> None:
    [sending] = CLIENT.send([make_object()], peer(lambda _: 0xB000))
    assert sending.error is None


def test_what_the_peer_has_already_counts_as_sent(peer, make_object: MakeObject) -> None:
    """Its answer to an earlier try was lost; our UIDs follow from the content, so it is the same object."""
    [sending] = CLIENT.send([make_object()], peer(lambda _: 0x0111))
    assert sending.error is None


def test_a_peers_own_words_are_not_told(peer, make_object: MakeObject) -> None:
    """They may name the patient, and messages go into the log, the audit trail and the records."""

    def refuse(_: evt.Event) -> Dataset:
        answer = Dataset()
        answer.Status, answer.ErrorComment = 0xC000, "JONES^MARY 1950-01-02 is not registered"
        return answer

    [sending] = CLIENT.send([make_object()], peer(refuse))
    assert "0xC000: it cannot understand it" in str(sending.error)
    assert "JONES" not in str(sending.error)


def test_nothing_goes_out_that_is_not_ours_to_send(peer, make_object: MakeObject) -> None:
    arrived: list[str] = []
    left = [True] * 3  # the association request and the first pieces

    def keep(event: evt.Event) -> int:
        arrived.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    objects = [make_object(), make_object()]
    sendings = CLIENT.send(objects, peer(keep), may_send=lambda: bool(left) and left.pop())
    assert isinstance(sendings[-1].error, ConnectionLostError)
    assert len(arrived) < 2


def test_a_peer_that_aborts_after_the_first_object(peer, make_object: MakeObject) -> None:
    answered: list[int] = []

    def answer(event: evt.Event) -> int:
        if answered:
            event.assoc.abort()
        answered.append(1)
        return 0x0000

    first, second, third = CLIENT.send([make_object() for _ in range(3)], peer(answer))
    assert first.error is None
    assert isinstance(second.error, ConnectionLostError)
    assert isinstance(third.error, ConnectionLostError)
    assert second.error.worth_retrying


def test_files_are_sent_too(tmp_path: Path, peer, make_object: MakeObject) -> None:
    stored: list[str] = []
    destination = peer(lambda e: stored.append(e.request.AffectedSOPInstanceUID) or 0x0000)
    image = make_object()
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    CLIENT.send([tmp_path / "image.dcm"], destination)
    assert stored == [image.SOPInstanceUID]


def test_nothing_to_send_needs_no_peer(free_port: int) -> None:
    assert CLIENT.send([], Destination("pacs", "PACS", "127.0.0.1", free_port)) == ()


@contextmanager
def dripping_from(port: int, freely: int, every_seconds: float = 0.2) -> Iterator[int]:
    """A way to a port that lets so many bytes of its answers through at once, and then one at a time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def forward(source: socket.socket, target: socket.socket, freely: float) -> None:
            try:
                while not ended.is_set() and (said := source.recv(4096 if freely > 0 else 1)):
                    if freely <= 0:
                        ended.wait(every_seconds)
                    freely -= len(said)
                    target.sendall(said)
            except OSError:
                return

        def serve() -> None:
            try:
                ours, _ = server.accept()
            except OSError:
                return
            with ours, socket.create_connection(("127.0.0.1", port)) as theirs:
                back = threading.Thread(target=forward, args=(theirs, ours, freely))
                back.start()
                forward(ours, theirs, math.inf)
                ended.set()
                theirs.shutdown(socket.SHUT_RDWR)
                back.join()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            server.close()
            thread.join()


@pytest.mark.parametrize("freely", [0, 150], ids=["the association", "an answer"])
def test_a_peer_that_drips_its_answer_is_not_waited_for(peer, make_object: MakeObject, freely: int) -> None:
    """A byte now and then is no answer: the time for one runs until it is whole."""
    there = peer(lambda _: 0x0000)
    with dripping_from(there.port, freely) as port:
        started = time.monotonic()
        try:
            sendings = StorageClient("NODE", 1.0).send([make_object()], replace(there, port=port))
            errors: list[object] = [sending.error for sending in sendings]
        except NetworkError as error:
            errors = [error]
        assert time.monotonic() - started < 8
    assert len(errors) == 1
    assert isinstance(errors[0], NetworkError)
    assert errors[0].worth_retrying
