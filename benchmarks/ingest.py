"""Ingest: objects of 17 MB a second into the node, beside DCMTK's storescp in the same run; and the node's memory.

    python benchmarks/ingest.py [--objects 60] [--repeats 3]

Both receive the same files from the same storescu over loopback, one association, PDUs of 131072 bytes, in turn. The
node answers when an object is synced to disk and noted; storescp has no such option. So each is measured in two ways,
by a small library that is loaded before the C library (`SHIM`, compiled here by `cc`): once with fsync - storescp made
to call it as it closes each file, before it answers - and once without - the node's own fsync made to do nothing. The
node still checks each object's identifiers and writes its record, which storescp does not. storescp runs with `+B`: it
writes each object as it comes.

Nothing is read meanwhile: the node waits for quiet. Its memory is that of a node without a model.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from node_under_test import (
    MAX_PDU,
    MODALITY_TITLE,
    NODE_TITLE,
    NodeProcess,
    SmallMammograms,
    destination_section,
    echo,
    free_port,
    resident_megabytes,
    wait_for,
)
from rich.console import Console
from rich.table import Table

ROWS, COLUMNS = 3328, 2560
"""16 bits a pixel: 17.0 MB."""
IMAGES_A_STUDY = 4
# Without the environment's own programs: pynetdicom installs a storescu and a storescp too.
DCMTK_PATH = os.pathsep.join(
    folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder) != Path(sys.prefix, "bin")
)
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int wanted(const char *mode) {
    const char *set = getenv("FSYNC");
    return set != NULL && strcmp(set, mode) == 0;
}

static void sync_if_written(int descriptor) {
    struct stat about;
    int is_file = fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode);
    if (is_file && (fcntl(descriptor, F_GETFL) & O_ACCMODE) != O_RDONLY)
        ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(descriptor);
}

int fclose(FILE *file) {
    if (wanted("at close")) {
        fflush(file);
        sync_if_written(fileno(file));
    }
    return ((int (*)(FILE *))dlsym(RTLD_NEXT, "fclose"))(file);
}

int fsync(int descriptor) {
    return wanted("never") ? 0 : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(descriptor);
}

int fdatasync(int descriptor) {
    return wanted("never") ? 0 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(descriptor);
}
"""


@dataclass(slots=True)
class Measured:
    """Repeated runs of one receiver."""

    rates: list[float] = field(default_factory=list)
    memory: list["Memory"] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median objects a second."""
        return statistics.median(self.rates)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure; else the temporary folder")
    arguments = parser.parse_args()
    missing = [tool for tool in ("storescu", "storescp", "cc") if shutil.which(tool, path=DCMTK_PATH) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)} (Debian packages dcmtk and gcc)")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        files = write_objects(folder / "objects", arguments.objects)
        shim = compile_shim(folder)
        ways: dict[tuple[str, str], Callable[[Path, dict[str, str]], AbstractContextManager[Receiver]]] = {
            ("storescp", "at close"): Storescp,
            ("node", "its own"): Node,
            ("storescp", "never"): Storescp,
            ("node", "never"): Node,
        }
        measured = {way: Measured() for way in ways}
        for repeat in range(arguments.repeats):
            for number, (way, receiver) in enumerate(ways.items()):
                place = folder / f"{repeat}-{number}"
                with receiver(place, {"LD_PRELOAD": str(shim), "FSYNC": way[1]}) as running:
                    with Memory(running.pid) as memory:
                        measured[way].rates.append(len(files) / seconds_to_send(files, running.port, running.title))
                    measured[way].memory.append(memory)
                    kept = sum(1 for f in place.rglob("*") if f.is_file() and f.stat().st_size > ROWS * COLUMNS)
                    if kept != len(files):
                        raise RuntimeError(f"{way[0]} kept {kept} of {len(files)} objects")
                shutil.rmtree(place)
    show(measured, arguments.objects, arguments.repeats)
    return 0


def write_objects(folder: Path, count: int) -> list[Path]:
    """Mammograms of noise, in studies of four."""
    maker = SmallMammograms(folder, seed=1)
    pixels = np.random.default_rng(1).integers(0, 4096, size=(ROWS, COLUMNS), dtype="<u2").tobytes()
    files = []
    for index in range(count):
        number, view = divmod(index, IMAGES_A_STUDY)
        dataset = maker.dataset(number, f"1.2.3.{number}", view)
        dataset.Rows, dataset.Columns, dataset.PixelData = ROWS, COLUMNS, pixels
        files.append(folder / f"{index}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def compile_shim(folder: Path) -> Path:
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(SHIM, encoding="ascii")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def seconds_to_send(files: list[Path], port: int, title: str) -> float:
    """Send all over one association, and check that all were taken."""
    tool = shutil.which("storescu", path=DCMTK_PATH)
    assert tool
    command = [tool, "-aet", MODALITY_TITLE, "-aec", title, "-pdu", str(MAX_PDU), "127.0.0.1", str(port)]
    started = time.perf_counter()
    sent = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if sent.returncode != 0:
        raise RuntimeError(f"storescu: {sent.stderr or sent.stdout}")
    return seconds


class Receiver:
    """What receives: where it listens, what it is called, and which process it is."""

    pid: int
    port: int
    title: str


class Storescp(Receiver):
    """DCMTK's storescp, writing into a folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.port, self.title = free_port(), "STORESCP"
        self._folder, self._environment = folder, {**os.environ, **environment}

    def __enter__(self) -> "Storescp":
        self._folder.mkdir()
        tool = shutil.which("storescp", path=DCMTK_PATH)
        assert tool
        command = [tool, "+B", "-pdu", str(MAX_PDU), "-aet", self.title, "-od", str(self._folder), str(self.port)]
        self._process = subprocess.Popen(command, env=self._environment)
        self.pid = self._process.pid
        wait_for(lambda: echo(self.port, called=self.title), "storescp listens")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()


class Node(Receiver):
    """The node, waiting for a quiet that does not come."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        settings = {"node": {"quiet_seconds": 3600, "expected_views": []}, "destinations": [destination_section(1)]}
        self._node = NodeProcess(folder, settings, environment=environment)
        self.port, self.title = self._node.port, NODE_TITLE

    def __enter__(self) -> "Node":
        self._node.start()
        self._node.wait_until_it_listens()
        assert self._node.process is not None
        self.pid = self._node.process.pid
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._node.kill()


class Memory:
    """Resident megabytes of a process, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.samples: list[float] = []

    def __enter__(self) -> "Memory":
        self.samples.append(resident_megabytes(self._pid))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.samples.append(resident_megabytes(self._pid))

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.samples.append(resident_megabytes(self._pid))

    def words(self) -> str:
        half = len(self.samples) // 2
        before, first, second = self.samples[0], max(self.samples[: half + 1]), max(self.samples[half:])
        return f"{before:.0f} / {first:.0f} / {second:.0f}"


def show(measured: dict[tuple[str, str], Measured], objects: int, repeats: int) -> None:
    table = Table(
        "receiver",
        "fsync",
        "objects/s, median (least - most)",
        "beside storescp",
        "MB resident: before / first half / second half",
        title=f"Ingest: {objects} objects of {2 * ROWS * COLUMNS / 1e6:.1f} MB, {repeats} runs each, in turn",
    )
    for (receiver, fsync), runs in measured.items():
        peer = measured["storescp", "never" if fsync == "never" else "at close"]
        words = f"{runs.rate:.1f} ({min(runs.rates):.1f} - {max(runs.rates):.1f})"
        table.add_row(receiver, fsync, words, f"{runs.rate / peer.rate:.2f}", runs.memory[-1].words())
    Console(width=140).print(table)


if __name__ == "__main__":
    sys.exit(main())
