"""A node as its peers see it: a process with a settings file, a modality that sends, a destination that keeps count.

What `soak.py`, `fuzz.py` and `ingest.py` share, and the tests of the node that treat it as a black box. The node's
detector is the one of `tests/node/run_node.py`, which needs no model: it finds the brightest blob.
"""

import contextlib
import copy
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.presentation import build_context

from mammoscope.network.association import make_pausable, pause
from mammoscope.node.db import schema as t
from mammoscope.node.db.engine import open_database, reading_only
from mammoscope.node.db.models import DeliveryStatus
from mammoscope.phantom import screening_study

ROOT = Path(__file__).resolve().parent.parent
RUN_NODE = ROOT / "tests" / "node" / "run_node.py"
NODE_TITLE, MODALITY_TITLE, DESTINATION_TITLE = "NODE", "MODALITY", "PACS"
VERIFICATION = UID("1.2.840.10008.1.1")
PATIENT_WORD = "Geheimnis"
"""In the name and the number of every synthetic patient: what no log may hold."""
FULL_WHITE, MAX_PDU = 4095, 131072
PATIENCE_SECONDS = 180.0
POSTGRES_USER = "postgres"
POSTGRES_PROGRAMS = max(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), default=Path("/usr/lib/postgresql"))

Sections = Mapping[str, Any]


def free_port() -> int:
    """A port of the loopback interface that nothing listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(
    condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS, look_every: float = 0.05
) -> None:
    """Wait until a condition holds; end with words, not silence, when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(look_every)


def wait_while_it_moves(
    condition: Callable[[], object],
    standing: Callable[[], object],
    what: str,
    still_seconds: float = 300.0,
    look_every: float = 5.0,
) -> None:
    """Wait until a condition holds, for as long as anything moves: a busy machine takes its time.

    Parameters
    ----------
    standing
        Changes with every step forward, and with nothing else: no counter of tries, or an endless loop is waited for.
    still_seconds
        Give up when it stood still for so long.

    Raises
    ------
    TimeoutError
        If it stood still, and the condition does not hold.
    """
    stood, since = standing(), time.monotonic()
    while not condition():
        now = standing()
        if now != stood:
            stood, since = now, time.monotonic()
        elif time.monotonic() - since > still_seconds:
            raise TimeoutError(f"nothing moved for {still_seconds:.0f} s, and waited in vain: {what}")
        time.sleep(look_every)


# The node ---------------------------------------------------------------------------------------------------------


def settings_text(sections: Sections) -> str:
    """A TOML file of plain sections, and of lists of them."""
    lines: list[str] = []
    for name, section in sections.items():
        tables = section if isinstance(section, list) else [section]
        for table in tables:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def destination_section(port: int, name: str = "pacs", **more: Any) -> dict[str, Any]:
    """The ``[[destinations]]`` of a `CountingDestination`."""
    return {"name": name, "ae_title": DESTINATION_TITLE, "host": "127.0.0.1", "port": port, **more}


class NodeProcess:
    """One node as a process of its own, to be started and killed again and again.

    Parameters
    ----------
    folder
        Where its settings file, its log and (unless the settings say otherwise) its storage lie.
    sections
        The settings; the section ``node`` gets an AE title, a free port and a storage folder where it has none.
    name
        Of its settings file and its log.
    options
        Of `tests/node/run_node.py`.
    """

    def __init__(
        self,
        folder: Path,
        sections: Sections,
        *,
        environment: Mapping[str, str] | None = None,
        name: str = "node",
        options: Sequence[str] = (),
    ) -> None:
        node = {"ae_title": NODE_TITLE, "port": free_port(), "storage": "storage", **sections.get("node", {})}
        self.port = int(node["port"])
        self.storage = folder / node["storage"]
        self._options = tuple(options)
        self._config = folder / f"{name}.toml"
        self._log = folder / f"{name}.log"
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(settings_text({**sections, "node": node}), encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and do not wait."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(RUN_NODE), str(self._config), *self._options],
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def wait_until_it_listens(self) -> None:
        """Wait for its answer to a C-ECHO."""
        wait_for(lambda: not self.alive or echo(self.port), "the node listens")
        if not self.alive:
            raise RuntimeError(f"the node ended at its start:\n{self.log_text()[-2000:]}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it as a power cut would: it and its children get no chance to tidy up."""
        if self.process is not None:
            kill_session(self.process.pid)
            self.process.wait()

    def stop(self) -> int:
        """End it by SIGTERM; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def log_text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The lines of its log, as far as they are JSON; a kill may have cut one."""
        found = []
        for line in self.log_text().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and (name is None or event.get("event") == name):
                found.append(event)
        return found


class Progress:
    """How much is in a node's records, as it grows: what was received, read, given up, made and sent.

    Parameters
    ----------
    storage, database
        As in the node's settings.
    """

    _STEPS = (t.objects, t.images_read, t.failures, t.results_made)

    def __init__(self, storage: Path, database: str | None = None) -> None:
        self._engine = reading_only(open_database(storage, database))

    def __call__(self) -> tuple[int, ...]:
        counts = [sa.select(sa.func.count()).select_from(table) for table in self._STEPS]
        counts.append(sa.select(sa.func.count()).where(t.sendings.c.status == DeliveryStatus.SENT))
        with self._engine.connect() as connection:
            return tuple(int(connection.scalar(count) or 0) for count in counts)

    def close(self) -> None:
        self._engine.dispose()


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process, without its children."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) / 1024


def peak_megabytes(pid: int) -> float:
    """The most resident memory that a process ever had, without its children."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def kill_session(leader: int) -> None:
    """Kill a process that leads a session of its own, and whatever it started that is still in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own on the loopback interface; yields its address.

    Needs root, to start it as another user, and Debian's postgresql-15.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="mammoscope-postgres-") as name:
        folder = Path(name)
        shutil.chown(folder, POSTGRES_USER, POSTGRES_USER)
        as_user = ["setpriv", f"--reuid={POSTGRES_USER}", f"--regid={POSTGRES_USER}", "--clear-groups"]

        def run(program: str, *options: str | Path) -> None:
            command = [*as_user, POSTGRES_PROGRAMS / program, "-D", folder / "data", *options]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)

        run("initdb", "-U", "node", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        server = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
        run("pg_ctl", "-w", "-t", "120", "-l", folder / "log", "-o", server, "start")
        try:
            yield f"postgresql://node@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


def leaks(folder: Path) -> list[str]:
    """Files that hold a patient's word, the DICOM objects apart."""
    words = (PATIENT_WORD.encode(), PATIENT_WORD.encode("utf-16-le"))
    others = (file for file in sorted(folder.rglob("*")) if file.is_file() and not _is_dicom(file))
    return [str(file.relative_to(folder)) for file in others if any(word in file.read_bytes() for word in words)]


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(132)[128:] == b"DICM"


# The modality -----------------------------------------------------------------------------------------------------


def _caller(title: str, seconds: float = 60.0) -> AE:
    ae = AE(title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = seconds
    ae.maximum_pdu_size = MAX_PDU
    return ae


def echo(port: int, *, title: str = MODALITY_TITLE, called: str = NODE_TITLE) -> bool:
    """Whether a DICOM node answers a C-ECHO there."""
    association = _caller(title).associate("127.0.0.1", port, [build_context(VERIFICATION)], ae_title=called)
    if not association.is_established:
        return False
    answer = association.send_c_echo()
    association.release()
    return answer.get("Status") == 0x0000


def send(files: Sequence[Path], port: int, *, title: str = MODALITY_TITLE) -> list[int | None]:
    """Send files by C-STORE over one association, each byte for byte as it lies on the disk.

    Only the file meta information is looked at, so that the data set may be anything at all.

    Returns
    -------
    list
        The status of each; ``None`` where no answer came.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True
    metas = [read_file_meta_info(file) for file in files]
    wanted = dict.fromkeys((m.MediaStorageSOPClassUID, m.TransferSyntaxUID) for m in metas)
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in wanted]
    association = _caller(title).associate("127.0.0.1", port, contexts, ae_title=NODE_TITLE)
    make_pausable(association)  # or pynetdicom, on a busy machine, may lose the very answer that is waited for
    statuses: list[int | None] = []
    for file in files:
        try:
            pause(association)
            statuses.append(association.send_c_store(file).get("Status") if association.is_established else None)
        except (RuntimeError, ValueError, OSError):  # the association broke, or this context was not accepted
            statuses.append(None)
    if association.is_established:
        association.release()
    return statuses


# Small mammograms -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SmallMammogram:
    """One synthetic image whose only finding is known.

    Parameters
    ----------
    box
        x0, y0, x1, y1 of its bright rectangle, edges in pixels; ``None`` where the image holds none or is cut short.
    """

    file: Path
    study: str
    uid: str
    box: tuple[float, float, float, float] | None


class SmallMammograms:
    """Makes synthetic studies of 128 by 96 pixels, the same for the same seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._templates = [image.dataset for image in screening_study(1, masses=0, rows=128, columns=96).images]
        folder.mkdir(parents=True, exist_ok=True)

    def study(self, number: int, images: int = 4) -> list[SmallMammogram]:
        """Write the images of one study; one of 50 is cut short, one of 10 shows nothing."""
        rng = np.random.default_rng([self._seed, number])
        study = generate_uid(entropy_srcs=[str(self._seed), str(number)])
        return [self._image(rng, number, study, view) for view in range(images)]

    def dataset(self, number: int, study: str, view: int) -> FileDataset:
        """The header and the dim breast of one view, as yet without a finding."""
        dataset = copy.deepcopy(self._templates[view % len(self._templates)])
        dataset.StudyInstanceUID = study
        dataset.SeriesInstanceUID = f"{study}.1"[:64]
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[study, str(view)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PatientName = f"{PATIENT_WORD}^{number}"
        dataset.PatientID = f"{PATIENT_WORD}-{number}"
        pixels = np.minimum(dataset.pixel_array // 2, FULL_WHITE // 2)
        dataset.PixelData = pixels.astype("<u2").tobytes()
        return dataset

    def _image(self, rng: np.random.Generator, number: int, study: str, view: int) -> SmallMammogram:
        dataset = self.dataset(number, study, view)
        pixels = dataset.pixel_array.copy()
        rows, columns = pixels.shape
        box = None
        if rng.random() < 0.1:
            pixels[:] = 0
        else:
            width, height = (int(n) for n in rng.integers(8, 30, size=2))
            x, y = int(rng.integers(0, columns - width)), int(rng.integers(0, rows - height))
            pixels[y : y + height, x : x + width] = FULL_WHITE
            box = (float(x), float(y), float(x + width), float(y + height))
        dataset.PixelData = pixels.astype("<u2").tobytes()
        if rng.random() < 0.02:
            dataset.PixelData, box = dataset.PixelData[: rows * columns], None
        file = self._folder / f"{number}-{view}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        return SmallMammogram(file, study, str(dataset.SOPInstanceUID), box)


# The destination --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Visit:
    """One association of the node's with the destination."""

    opened: float
    released: float | None = None
    broken: float | None = None
    """When it ended otherwise, by whomever."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One object that the destination stored and acknowledged."""

    at: float
    uid: str
    sop_class: str
    digest: str
    visit: Visit
    dataset: Dataset | None = field(default=None, repr=False)
    """The object itself, if its SOP class was to be kept."""


class CountingDestination:
    """A storage SCP that notes every object it acknowledged, and can be down in three ways."""

    def __init__(self, port: int | None = None, *, keeps: Sequence[str] = ()) -> None:
        self.port = port or free_port()
        self.arrivals: list[Arrival] = []
        self.refusals = 0
        self.status_for: Callable[[str], int | None] = lambda _: 0x0000
        """What an object, named by its SOP Instance UID, is answered: only 0 stores it, ``None`` is an abort."""
        self._keeps = frozenset(keeps)
        self._visits: dict[int, Visit] = {}
        self._server: Any = None
        self._lock = threading.Lock()
        self._ae = AE(DESTINATION_TITLE)
        self._ae.maximum_pdu_size = MAX_PDU
        for context in AllStoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        self._ae.add_supported_context(VERIFICATION)

    def open(self) -> None:
        """Listen."""
        handlers: list[Any] = [
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, self._on_released),
            (evt.EVT_CONN_CLOSE, self._on_closed),
        ]
        address = ("127.0.0.1", self.port)
        self._server = self._ae.start_server(address, block=False, evt_handlers=handlers)

    def close(self) -> None:
        """Stop listening, and abort whoever is in the middle of something."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None
        for association in list(self._ae.active_associations):
            association.abort()

    def reject(self, *, everyone: bool) -> None:
        """Reject every association, or accept them again."""
        self._ae.require_calling_aet = ["NOBODY"] if everyone else []

    def __enter__(self) -> "CountingDestination":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def uids(self) -> set[str]:
        return {arrival.uid for arrival in self.arrivals}

    def _on_accepted(self, event: evt.Event) -> None:
        self._visits[id(event.assoc)] = Visit(time.monotonic())

    def _on_store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        status = self.status_for(uid)
        if status is None:
            event.assoc.abort()
            return 0x0000  # goes nowhere any more
        if status != 0x0000:
            self.refusals += 1
            return status
        content = event.request.DataSet.getvalue()
        sop_class = str(event.request.AffectedSOPClassUID)
        kept = event.dataset if sop_class in self._keeps else None
        digest = hashlib.sha256(content).hexdigest()
        with self._lock:
            visit = self._visits[id(event.assoc)]
            self.arrivals.append(Arrival(time.monotonic(), uid, sop_class, digest, visit, kept))
        return 0x0000

    def _on_released(self, event: evt.Event) -> None:
        self._visits[id(event.assoc)].released = time.monotonic()

    def _on_closed(self, event: evt.Event) -> None:
        visit = self._visits.get(id(event.assoc))
        if visit is not None and visit.released is None and visit.broken is None:
            visit.broken = time.monotonic()
