"""The real node process beside peers who leak, forge and shut out: what of them reaches files and terminals."""

import os
import re
import socket
import stat
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, FileDataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

from mammoscope.network import Destination, StorageClient

NAME = "DOE^JANE^4711"
COMMENT = f"patient {NAME} unknown\x1b[2J\n"


def ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def gossip() -> Iterator[int]:
    """A PACS that refuses every object and names the patient in its comment; its port."""

    def store(_: evt.Event) -> Dataset:
        answer = Dataset()
        answer.Status, answer.ErrorComment = 0xC123, COMMENT[:64]
        return answer

    ae = AE("PACS")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    yield server.server_address[1]
    ae.shutdown()


class RunningNode:
    """``mammoscope node run`` in a process of its own, started with an umask that hides nothing."""

    def __init__(self, folder: Path, pacs: int, more: str = "") -> None:
        self.port, self.web = ports(2)
        self.storage = folder / "storage"
        self.config = folder / "node.toml"
        self.log = folder / "node.log"
        self.config.write_text(
            f'[node]\nae_title = "NODE"\nport = {self.port}\nstorage = "storage"\nquiet_seconds = 2\n{more}'
            f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs}\n'
            f'results = ["cad-sr"]\n[web]\nport = {self.web}\n'
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "mammoscope", "node", "run", "--config", str(self.config)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=environment, umask=0)

    @property
    def destination(self) -> Destination:
        return Destination("node", "NODE", "127.0.0.1", self.port)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=30) as answer:
            return answer.read().decode()

    def show(self, study: str) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "mammoscope", "node", "show", study, "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, env=environment, check=True, timeout=120).stdout.decode()


@pytest.fixture
def start(tmp_path: Path, gossip: int, wait_until) -> Iterator[Callable[..., RunningNode]]:
    started: list[RunningNode] = []

    def make(more: str = "") -> RunningNode:
        node = RunningNode(tmp_path, gossip, more)
        started.append(node)
        wait_until(lambda: b'"node started"' in node.log.read_bytes(), 120)
        return node

    yield make
    for node in started:
        node.process.terminate()
        node.process.wait(60)


def calls(called: bytes, calling: bytes) -> bytes:
    """An A-ASSOCIATE-RQ for verification (DICOM PS3.8 Table 9-11) with any bytes as AE titles."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2")
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3")
    variable = item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, b"\x01\x00\x00\x00" + context) + item(0x50, user)
    fixed = struct.pack(">HH16s16s32s", 1, 0, called.ljust(16), calling.ljust(16), b"")
    return struct.pack(">BBL", 1, 0, len(fixed) + len(variable)) + fixed + variable


def test_no_name_from_a_comment_is_kept_and_no_file_is_for_others(
    start, images: list[FileDataset], wait_until: Any
) -> None:
    node = start()
    sendings = StorageClient("MODALITY").send(images, node.destination)
    assert [sending.error for sending in sendings] == [None] * 4
    study = str(images[0].StudyInstanceUID)
    wait_until(lambda: "parked" in node.show(study), 180)
    for called in (b"A\x1b[31mB", b"OTHER"):  # the first is no AE title, and so aborted
        with socket.create_connection(("127.0.0.1", node.port), timeout=30) as connection:
            connection.sendall(calls(called, b"EVE"))
            connection.recv(100)
    wait_until(lambda: b'"association rejected"' in node.log.read_bytes())

    shown = node.show(study)
    assert "status 0xC123: it cannot understand it" in shown
    assert "\x1b" not in shown
    for file in (node.log, *(f for f in node.storage.rglob("*") if f.is_file())):
        if "inbox" in file.parts or file.suffix == ".dcm":  # the study itself
            continue
        content = file.read_bytes()
        assert b"4711" not in content, f"{file} holds the comment"
        assert b"\x1b" not in content or ".sqlite" in file.name, f"{file} holds a terminal's escapes"
    for file in (node.storage, *node.storage.rglob("*")):
        mode = stat.S_IMODE(file.lstat().st_mode)
        assert mode & 0o077 == 0, f"{file.relative_to(node.storage)} has the mode {mode:04o}"
    page = node.get("/metrics")
    assert not re.search(r"\d+\.\d+\.\d+\.\d+\.\d+", page), "a UID is on the page that asks for no token"


def test_lines_of_a_stranger_keep_nobody_out_and_fill_no_log(start) -> None:
    node = start('allowed_callers = ["MODALITY"]\n')
    with ExitStack() as stack:
        lines = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for port in (node.port, node.web)
            for _ in range(150)
        ]
        for line in lines:
            line.sendall(b"\x01")
        for _ in range(10):
            StorageClient("MODALITY", timeout_seconds=20).echo(node.destination)
            assert node.get("/healthz") == "alive\n"
            for line in lines:
                try:
                    line.send(b"\x00")
                except OSError:
                    continue
    before = node.log.stat().st_size
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", node.port), timeout=30) as connection:
            connection.sendall(calls(b"NODE", b"EVE"))
            connection.recv(100)
    time.sleep(1)
    assert node.log.stat().st_size - before < 10_000
