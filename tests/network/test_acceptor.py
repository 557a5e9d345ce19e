"""Peers that are silent, huge or unwanted."""

import resource
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import AE

from mammoscope.network import (
    CallerRefusal,
    ConnectionLostError,
    Destination,
    ObjectRefusal,
    Receipt,
    StatusError,
    StorageClient,
    StorageService,
    acceptor,
)

MakeObject = Callable[..., FileDataset]
CLIENT = StorageClient("TESTER", timeout_seconds=30)
PDU_OF_P_DATA = 4
COMMAND, DATA, LAST_DATA = b"\x01\x03", b"\x01\x00", b"\x01\x02"
"""Context 1 with the message control header of DICOM PS3.8 E.2."""


def to(service: StorageService) -> Destination:
    return Destination("node", "NODE", "127.0.0.1", service.port)


def big_object(make_object: MakeObject, megabytes: int) -> FileDataset:
    dataset = make_object()
    dataset.Rows, dataset.Columns = 1024, 512 * megabytes
    dataset.PixelData = bytes(megabytes << 20)
    return dataset


class Folder:
    """The most bytes that a folder was seen to hold, asked for again and again in a thread."""

    def __init__(self, folder: Path) -> None:
        self.most = 0
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Folder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.001):
            self.most = max(self.most, self.now())

    def now(self) -> int:
        return sum(file.stat().st_size for file in self._folder.glob("*") if file.exists())


def test_an_object_above_the_limit_is_refused_and_leaves_the_disk(
    tmp_path: Path, receiver, refused: list[ObjectRefusal], make_object: MakeObject
) -> None:
    folder = tmp_path / "incoming"
    with (
        StorageService("NODE", folder, receiver, largest_object=2 << 20, on_object_refused=refused.append) as service,
        Folder(folder) as disk,
    ):
        too_large, next_one = CLIENT.send([big_object(make_object, 12), make_object()], to(service))
        assert list(folder.iterdir()) == []
    assert isinstance(too_large.error, StatusError)
    assert too_large.error.status == 0xC000
    assert "it cannot understand it" in str(too_large.error)
    assert next_one.error is None
    assert disk.most <= 2 << 20
    assert [r.reason for r in refused] == ["an object above the limit of 2097152 bytes was refused"]


def test_back_pressure_refuses_before_anything_is_kept_and_ends_by_itself(
    tmp_path: Path, receiver, refused: list[ObjectRefusal], make_object: MakeObject
) -> None:
    reasons = ["the disk is nearly full", "the disk is nearly full", None]
    folder = tmp_path / "incoming"
    with (
        StorageService(
            "NODE", folder, receiver, back_pressure=lambda: reasons.pop(0), on_object_refused=refused.append
        ) as service,
        Folder(folder) as disk,
    ):
        sendings = CLIENT.send([big_object(make_object, 4), make_object(), big_object(make_object, 1)], to(service))
    put_off = [sending.error for sending in sendings[:2]]
    assert [error.status for error in put_off] == [0xA700, 0xA700]
    assert all("it is out of resources" in str(error) and error.worth_retrying for error in put_off)
    assert sendings[2].error is None
    assert disk.most < 2 << 20
    assert [r.reason for r in refused] == ["an object was put off: the disk is nearly full"] * 2


def test_a_disk_that_is_full_while_an_object_arrives(tmp_path: Path, receiver, make_object: MakeObject) -> None:
    folder = tmp_path / "incoming"
    with StorageService("NODE", folder, receiver) as service:
        image = big_object(make_object, 8)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, hard))  # a write beyond it fails as on a full disk
        try:
            [sending] = CLIENT.send([image], to(service))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert isinstance(sending.error, StatusError)
        assert sending.error.status == 0xA700
        assert list(folder.iterdir()) == []


def test_an_address_that_is_not_allowed_is_not_answered(tmp_path: Path, receiver) -> None:
    refusals: list[CallerRefusal] = []
    with (
        StorageService(
            "NODE", tmp_path, receiver, allowed_networks=["10.0.0.0/24", "::1"], on_caller_refused=refusals.append
        ) as service,
        pytest.raises(ConnectionLostError),
    ):
        CLIENT.echo(to(service))
    assert refusals == [CallerRefusal("", "127.0.0.1", "its address is not allowed")]


def test_who_called_wrongly_is_told_to_the_administrator(tmp_path: Path, receiver, wait_until) -> None:
    refusals: list[CallerRefusal] = []
    with StorageService(
        "NODE", tmp_path, receiver, allowed_callers=["MODALITY"], on_caller_refused=refusals.append
    ) as service:
        for calling, called in (("STRANGER", "NODE"), ("MODALITY", "OTHER")):
            ae = AE(calling)
            ae.add_requested_context("1.2.840.10008.1.1")
            assert ae.associate("127.0.0.1", service.port, ae_title=called).is_rejected
        wait_until(lambda: len(refusals) == 2)
    assert refusals == [
        CallerRefusal("STRANGER", "127.0.0.1", "calling AE title not recognised"),
        CallerRefusal("MODALITY", "127.0.0.1", "called AE title not recognised (OTHER)"),
    ]


def connect(service: StorageService) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=60)


def test_half_an_association_request_is_given_up(tmp_path: Path, receiver) -> None:
    with StorageService("NODE", tmp_path, receiver, silence_seconds=0.5) as service:
        for half in (b"", b"\x01\x00", struct.pack(">BBL", 1, 0, 200) + b"half"):
            with connect(service) as connection:
                connection.sendall(half)
                assert connection.recv(100) in (b"", b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00"), (
                    "neither closed nor aborted"
                )
        CLIENT.echo(to(service))


def test_a_peer_that_falls_silent_in_the_middle_of_an_object_leaves_nothing(
    tmp_path: Path, receiver, make_object: MakeObject, wait_until
) -> None:
    folder = tmp_path / "incoming"
    with StorageService("NODE", folder, receiver, silence_seconds=1.0) as service, connect(service) as silent:
        speak(silent, big_object(make_object, 2), all_but=1 << 20)
        wait_until(lambda: any(folder.iterdir()))
        wait_until(lambda: not any(folder.iterdir()))
        assert ended(silent)
        CLIENT.echo(to(service))
    assert receiver.received == []


def test_a_peer_that_hangs_up_in_the_middle_of_an_object_leaves_nothing(
    tmp_path: Path, receiver, make_object: MakeObject, wait_until
) -> None:
    folder = tmp_path / "incoming"
    with StorageService("NODE", folder, receiver) as service:
        with connect(service) as connection:
            speak(connection, big_object(make_object, 2), all_but=1 << 20)
            wait_until(lambda: any(folder.iterdir()))
        wait_until(lambda: not any(folder.iterdir()))
        CLIENT.echo(to(service))
    assert receiver.received == []


def test_an_object_begun_twice_leaves_nothing(tmp_path: Path, receiver, make_object: MakeObject, wait_until) -> None:
    folder = tmp_path / "incoming"
    with StorageService("NODE", folder, receiver) as service, connect(service) as connection:
        associate(connection)
        pieces = spoken(make_object(), all_but=0)
        for piece in (pieces[0], *pieces):
            connection.sendall(piece)
        assert connection.recv(1000)[0] == PDU_OF_P_DATA
        wait_until(lambda: not any(folder.iterdir()))
    assert len(receiver.received) == 1


def test_whole_objects_of_a_peer_that_hangs_up_at_once_leave_nothing(
    tmp_path: Path, receiver, make_object: MakeObject, wait_until
) -> None:
    folder = tmp_path / "incoming"
    with StorageService("NODE", folder, receiver) as service:
        with connect(service) as connection:
            associate(connection)
            connection.sendall(b"".join(piece for _ in range(5) for piece in spoken(make_object(), all_but=0)))
        wait_until(lambda: not service._associations())
        assert list(folder.iterdir()) == []


def test_a_pdu_that_claims_two_gigabytes_is_not_read(tmp_path: Path, receiver) -> None:
    with StorageService("NODE", tmp_path, receiver, silence_seconds=1) as service, connect(service) as connection:
        connection.sendall(struct.pack(">BBL", PDU_OF_P_DATA, 0, 2**31))
        assert ended(connection)
        CLIENT.echo(to(service))


def test_a_request_that_announces_no_instance_is_aborted(
    tmp_path: Path, receiver, make_object: MakeObject, wait_until
) -> None:
    folder = tmp_path / "incoming"
    with StorageService("NODE", folder, receiver) as service, connect(service) as connection:
        associate(connection)
        image = make_object()
        del image.SOPInstanceUID
        for piece in spoken(image, all_but=0):
            connection.sendall(piece)
        assert ended(connection)
        wait_until(lambda: not any(folder.iterdir()))
        CLIENT.echo(to(service))
    assert receiver.received == []


def test_a_command_that_is_none_is_aborted(tmp_path: Path, receiver) -> None:
    with StorageService("NODE", tmp_path, receiver) as service:
        for content in (b"", b"\x00" * 7, b"\xff" * 40, struct.pack("<HHLH", 0, 0x0100, 2, 0x7777)):
            with connect(service) as connection:
                associate(connection)
                value = struct.pack(">L", len(content) + 2) + COMMAND + content
                connection.sendall(struct.pack(">BBL", PDU_OF_P_DATA, 0, len(value)) + value)
                assert ended(connection)
        CLIENT.echo(to(service))


def test_a_folder_that_takes_no_file_ends_the_association_not_the_service(
    tmp_path: Path, receiver, make_object: MakeObject
) -> None:
    folder = tmp_path / "incoming"
    with StorageService("NODE", folder, receiver) as service:
        folder.rename(tmp_path / "elsewhere")
        [sending] = CLIENT.send([make_object()], to(service))
        assert isinstance(sending.error, ConnectionLostError)
        (tmp_path / "elsewhere").rename(folder)
        [sending] = CLIENT.send([make_object()], to(service))
        assert sending.error is None


def test_memory_stays_flat_whatever_the_size(tmp_path: Path, make_object: MakeObject) -> None:
    """The receiver is given a file; Python's peak grows by less than the object."""
    sizes: list[int] = []

    def receive(received) -> Receipt:
        sizes.append(received.path.stat().st_size)
        return Receipt.STORED

    image = big_object(make_object, 24)
    with StorageService("NODE", tmp_path / "incoming", receive) as service, connect(service) as connection:
        pieces = list(spoken(image, all_but=0))
        tracemalloc.start()
        associate(connection)
        for piece in pieces:
            connection.sendall(piece)
        answer = connection.recv(1000)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert answer[0] == PDU_OF_P_DATA
    assert sizes[0] > 24 << 20
    assert peak < 8 << 20


def ended(connection: socket.socket) -> bool:
    """Whether the other side ends the connection, by an A-ABORT or without a word."""
    while True:
        try:
            data = connection.recv(1000)
        except ConnectionError:
            return True
        if not data:
            return True


def speak(connection: socket.socket, dataset: FileDataset, all_but: int) -> None:
    """Associate, and send a C-STORE request without its last bytes."""
    associate(connection)
    for piece in spoken(dataset, all_but):
        connection.sendall(piece)


def associate(connection: socket.socket) -> None:
    """Send an A-ASSOCIATE-RQ for mammograms in explicit little endian, and wait for its acceptance."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = item(
        0x20, b"\x01\x00\x00\x00" + item(0x30, b"1.2.840.10008.5.1.4.1.1.1.2") + item(0x40, b"1.2.840.10008.1.2.1")
    )
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    titles = b"NODE".ljust(16) + b"TESTER".ljust(16)
    body = b"\x00\x01\x00\x00" + titles + bytes(32) + item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    connection.sendall(struct.pack(">BBL", 1, 0, len(body)) + body)
    assert connection.recv(10000)[0] == 2, "the association was not accepted"


def spoken(dataset: FileDataset, all_but: int) -> list[bytes]:
    """The PDUs of a C-STORE request in context 1, without the last bytes of the data set."""

    command = Dataset()
    command.AffectedSOPClassUID = dataset.SOPClassUID
    if "SOPInstanceUID" in dataset:
        command.AffectedSOPInstanceUID = dataset.SOPInstanceUID
    command.CommandField, command.MessageID, command.Priority, command.CommandDataSetType = 1, 1, 0, 1
    encoded = []
    for part, implicit in ((command, True), (Dataset(dataset), False)):
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
        write_dataset(buffer, part)
        encoded.append(buffer.getvalue())
    head = b"\x00\x00\x00\x00\x04\x00\x00\x00" + struct.pack("<L", len(encoded[0]))
    pieces = [(COMMAND, head + encoded[0])]
    data = encoded[1][: len(encoded[1]) - all_but]
    step = 65536
    last = len(data) - 1 if all_but == 0 else len(data) * 2
    for start in range(0, len(data), step):
        pieces.append((LAST_DATA if start + step > last else DATA, data[start : start + step]))
    pdus = []
    for flags, content in pieces:
        value = struct.pack(">L", len(content) + 2) + flags + content
        pdus.append(struct.pack(">BBL", PDU_OF_P_DATA, 0, len(value)) + value)
    return pdus


def test_lines_that_say_nothing_take_nobodys_place_and_are_not_endless(
    tmp_path: Path, receiver, make_object: MakeObject, monkeypatch: pytest.MonkeyPatch, wait_until
) -> None:
    monkeypatch.setattr(acceptor, "MOST_CONNECTIONS", 26)
    refusals: list[CallerRefusal] = []
    with StorageService("NODE", tmp_path, receiver, on_caller_refused=refusals.append) as service:
        silent = [connect(service) for _ in range(25)]  # more than may associate
        assert [s.error for s in CLIENT.send([make_object()], to(service))] == [None]
        wait_until(lambda: refusals or silent.append(connect(service)))
        for line in silent:
            line.close()
    assert refusals[0] == CallerRefusal("", "127.0.0.1", "26 connections are open already")
