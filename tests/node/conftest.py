"""Synthetic studies, a detector that needs no model, a PACS in this process, and waiting without sleeping too long."""

import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.uid import MammographyCADSRStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt

from mammoscope.network import Destination, StorageClient
from mammoscope.node import Node
from mammoscope.phantom import screening_study
from mammoscope.settings import NodeSettings

_SPEC = importlib.util.spec_from_file_location("run_node", Path(__file__).with_name("run_node.py"))
assert _SPEC
assert _SPEC.loader
run_node = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(run_node)


_POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"))
_NOBODY = "postgres"


class Pacs:
    """A storage SCP that keeps everything, or answers with ``status``."""

    def __init__(self, port: int = 0) -> None:
        self.received: list[Dataset] = []
        self.requests = 0
        self.status = 0x0000
        self.seconds = 0.0
        """How long it takes over each object."""
        self.once = False
        """Whether it says 0x0111 to what it has already."""
        self._ae = AE("PACS")
        for context in AllStoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax)
        handlers = [(evt.EVT_C_STORE, self._store)]
        server = self._ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        self.port = server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.requests += 1
        time.sleep(self.seconds)
        if self.once and event.dataset.SOPInstanceUID in self.uids():
            return 0x0111
        if self.status == 0x0000:
            self.received.append(event.dataset)
        return self.status

    def uids(self) -> set[str]:
        return {str(d.SOPInstanceUID) for d in self.received}

    def stop(self) -> None:
        self._ae.shutdown()


@pytest.fixture(scope="session")
def load_benchmark(root: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Import a program of ``benchmarks/`` by name."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(root / "benchmarks"))
        yield importlib.import_module


@pytest.fixture
def peers(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """The node as a process, and who speaks with it: ``benchmarks/node_under_test.py``."""
    return load_benchmark("node_under_test")


@pytest.fixture
def destination(peers: ModuleType) -> Iterator[Any]:
    """A destination that keeps the CAD reports it gets."""
    with peers.CountingDestination(keeps=[MammographyCADSRStorage]) as destination:
        yield destination


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    pacs = Pacs()
    yield pacs
    pacs.stop()


@pytest.fixture
def start_pacs() -> Iterator[Callable[[int], Pacs]]:
    started: list[Pacs] = []

    def start(port: int) -> Pacs:
        started.append(Pacs(port))
        return started[-1]

    yield start
    for pacs in started:
        pacs.stop()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def detector():
    return run_node.BrightestBlob()


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., NodeSettings]:
    def make(pacs_port: int, **node: object) -> NodeSettings:
        section = {"ae_title": "NODE", "port": 0, "storage": tmp_path / "storage", "quiet_seconds": 2, **node}
        return NodeSettings(
            node=section,
            destinations=[{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs_port}],
        )

    return make


@pytest.fixture
def images(tmp_path: Path) -> list[FileDataset]:
    """The four views of one synthetic study."""
    return [dcmread(file) for file in screening_study(1, rows=256, columns=192).save(tmp_path / "study")]


@pytest.fixture
def send() -> Callable[[list[FileDataset], Node], None]:
    def send(datasets: list[FileDataset], node: Node) -> None:
        sendings = StorageClient("MODALITY").send(datasets, Destination("node", "NODE", "127.0.0.1", node.port))
        assert [s.error for s in sendings] == [None] * len(datasets)

    return send


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object]], None]:
    def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    return wait


@pytest.fixture
def postgresql(free_port: int) -> Iterator[str]:
    """A PostgreSQL server of the test's own, on the loopback interface."""
    if os.geteuid() != 0 or not _POSTGRESQL or shutil.which("setpriv") is None:
        pytest.skip("needs root, to start a PostgreSQL server of its own as another user, and Debian's postgresql")
    folder = Path("/tmp") / f"mammoscope-postgres-{os.getpid()}-{free_port}"
    folder.mkdir()
    shutil.chown(folder, _NOBODY, _NOBODY)
    run_as = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    data = folder / "data"

    def run(*command: str | Path) -> None:
        done = subprocess.run([*run_as, *command], capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    programs = _POSTGRESQL[-1]
    run(programs / "initdb", "-D", data, "-U", "node", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-c listen_addresses=127.0.0.1 -c port={free_port} -c unix_socket_directories={folder} -c fsync=off"
    run(programs / "pg_ctl", "-D", data, "-w", "-t", "120", "-l", folder / "log", "-o", options, "start")
    try:
        yield f"postgresql://node@127.0.0.1:{free_port}/postgres"
    finally:
        run(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)
