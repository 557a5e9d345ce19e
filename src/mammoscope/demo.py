"""The whole way once, on a synthetic study: over real DICOM to a node and back to a PACS, judged against the truth.

The node is the real one, ``mammoscope node run`` in a process of its own. The modality and the PACS are this process.
What is judged is what the PACS received, read back from the Mammography CAD SR, and nothing else.
"""

import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import (
    GrayscaleSoftcopyPresentationStateStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
)

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Box, Finding
from mammoscope.network import Destination, NetworkError, Receipt, ReceivedObject, StorageClient, StorageService
from mammoscope.results.verification import concept_value, content_item_at, content_items

LOOPBACK = "127.0.0.1"
MODALITY_AE_TITLE = "DEMO_MODALITY"
NODE_AE_TITLE = "MAMMOSCOPE"
PACS_AE_TITLE = "DEMO_PACS"
START_SECONDS = 60.0
RESULT_SECONDS = 120.0
QUIET_SECONDS = 2.0

HIT_OVERLAP = 0.2
"""Intersection over union from which a box is on a mass; one whose centre lies in the mass is too."""

# Concept names of a Mammography CAD SR, coding scheme DCM (DICOM PS3.16 TID 4006).
SINGLE_IMAGE_FINDING = "111059"
CERTAINTY = "111012"
OUTLINE = "111041"


class DemoError(MammoscopeError):
    """Why the demo did not reach its end."""


@dataclass(frozen=True, slots=True)
class Match:
    """A mass with the best-scored box on it, a mass without one, or a box on no mass."""

    truth: Box | None
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class DemoRun:
    """A node that has read the study.

    Parameters
    ----------
    objects
        What the PACS received.
    reading_room
        Where the node shows the study in a browser; ``None`` where it was not asked to.
    """

    objects: list[Dataset]
    reading_room: str | None
    _node: "subprocess.Popen[bytes]"

    def wait(self) -> None:
        """Wait until the node ends, which it does by itself for no good reason."""
        self._node.wait()


@contextmanager
def read_over_dicom(images: Sequence[Path], out: Path, *, review: bool = False) -> Iterator[DemoRun]:
    """Send a study to a node of its own and give what a PACS then received; within the block the node runs.

    Parameters
    ----------
    images
        The DICOM files of one study.
    out
        Folder for what is left to look at: ``node.toml``, ``node.log`` and the received ``objects/``.
    review
        Whether the node serves its reading room, too.

    Raises
    ------
    DemoError
        If the node does not start, or the results do not come in time.
    NetworkError
        If the node does not take the study.
    """
    inbox = Inbox(out / "objects")
    incoming = out / ".incoming"
    try:
        with StorageService(PACS_AE_TITLE, incoming, inbox.keep, host=LOOPBACK) as pacs:
            node = Destination("the node", NODE_AE_TITLE, LOOPBACK, _free_port())
            config, log = out / "node.toml", out / "node.log"
            room_port = _free_port() if review else None
            config.write_text(node_settings(node.port, pacs.port, room_port), encoding="utf-8")
            with _running_node(config, log) as process:
                modality = StorageClient(MODALITY_AE_TITLE)
                _wait_for_echo(modality, node, process, log)
                for sending in modality.send(images, node):
                    if sending.error is not None:
                        raise sending.error
                objects = inbox.wait(process, log)
                room = f"http://{LOOPBACK}:{room_port}" if review else None
                if room is not None:
                    _wait_for_room(room, process, log)
                yield DemoRun(objects, room, process)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def node_settings(node_port: int, pacs_port: int, room_port: int | None = None) -> str:
    """The settings file of the demo's node."""
    room = f"\n[review]\nport = {room_port}\n" if room_port is not None else ""
    return f"""\
[node]
ae_title = "{NODE_AE_TITLE}"
host = "{LOOPBACK}"
port = {node_port}
storage = "node"
quiet_seconds = {QUIET_SECONDS}
allowed_callers = ["{MODALITY_AE_TITLE}"]

[[destinations]]
name = "pacs"
ae_title = "{PACS_AE_TITLE}"
host = "{LOOPBACK}"
port = {pacs_port}
{room}"""


def marks(report: Dataset) -> dict[str, list[Finding]]:
    """The findings of a Mammography CAD SR by SOP Instance UID of their image, as a mammography workstation finds them.

    An image of the report's library without findings has an empty list.
    """
    found: dict[str, list[Finding]] = {
        str(reference.ReferencedSOPInstanceUID): []
        for item in content_items(report)
        if item.get("ValueType") == "IMAGE"
        for reference in item.ReferencedSOPSequence
    }
    for item in content_items(report):
        if concept_value(item) != SINGLE_IMAGE_FINDING:
            continue
        properties = {concept_value(child): child for child in item.ContentSequence}
        outline = properties[OUTLINE]
        xs, ys = outline.GraphicData[0::2], outline.GraphicData[1::2]
        score = float(properties[CERTAINTY].MeasuredValueSequence[0].NumericValue) / 100
        image = content_item_at(report, outline.ContentSequence[0].ReferencedContentItemIdentifier)
        found[str(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)].append(
            Finding(Box(min(xs), min(ys), max(xs), max(ys)), score)
        )
    return found


def match(truth: Sequence[Box], findings: Sequence[Finding]) -> list[Match]:
    """Pair each finding, by falling score, with a mass that it is on and that has none yet."""
    free = list(truth)
    taken: dict[Box, Finding] = {}
    on_nothing: list[Match] = []
    for finding in sorted(findings, key=lambda finding: -finding.score):
        hit = max(
            (box for box in free if is_hit(box, finding.box)), key=lambda b: _overlap(b, finding.box), default=None
        )
        if hit is None:
            on_nothing.append(Match(None, finding))
        else:
            free.remove(hit)
            taken[hit] = finding
    return [Match(box, taken.get(box)) for box in truth] + on_nothing


def is_hit(truth: Box, found: Box) -> bool:
    """Whether a box is on a mass: enough of both is shared, or its centre lies in the mass."""
    x, y = found.center
    return _overlap(truth, found) >= HIT_OVERLAP or (truth.x0 <= x <= truth.x1 and truth.y0 <= y <= truth.y1)


@dataclass(slots=True)
class Inbox:
    """The archive of the demo's PACS: one folder."""

    folder: Path
    objects: dict[str, Dataset] = field(default_factory=dict)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def keep(self, received: ReceivedObject) -> Receipt:
        """Keep one object under the name of its modality."""
        path = self.folder / f"{received.modality}.{received.sop_instance_uid}.dcm"
        with self.arrived:
            if received.sop_instance_uid in self.objects:
                return Receipt.KNOWN
            path.hardlink_to(received.path)
            self.objects[received.sop_instance_uid] = dcmread(path)
            self.arrived.notify_all()
        return Receipt.STORED

    def wait(self, node: "subprocess.Popen[bytes]", log: Path) -> list[Dataset]:
        """Wait until everything has come that belongs to one study.

        Raises
        ------
        DemoError
            If the node ends before, or it takes too long.
        """
        deadline = time.monotonic() + RESULT_SECONDS
        with self.arrived:
            while not is_complete(list(self.objects.values())):
                if node.poll() is not None:
                    raise DemoError(f"the node ended before it had sent its results; {log} says why")
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"after {RESULT_SECONDS:.0f} s the PACS has {len(self.objects)} result objects and not all of "
                        f"the study's; {log} says how far the node came"
                    )
                self.arrived.wait(timeout=0.5)
            return list(self.objects.values())


def is_complete(objects: Sequence[Dataset]) -> bool:
    """Whether there is a report, a secondary capture, and a presentation state for each image with findings."""
    classes = [dataset.SOPClassUID for dataset in objects]
    reports = [dataset for dataset in objects if dataset.SOPClassUID == MammographyCADSRStorage]
    if not reports or SecondaryCaptureImageStorage not in classes:
        return False
    marked = sum(bool(findings) for findings in marks(reports[0]).values())
    return classes.count(GrayscaleSoftcopyPresentationStateStorage) >= marked


@contextmanager
def _running_node(config: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "mammoscope", "node", "run", "--config", str(config)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_echo(client: StorageClient, node: Destination, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return client.echo(node)
        except NetworkError as error:
            if process.poll() is not None:
                raise DemoError(f"the node did not start; {log} says why") from None
            if time.monotonic() > deadline:
                raise DemoError(f"the node did not answer in {START_SECONDS:.0f} s: {error}") from None
            time.sleep(0.2)


def _wait_for_room(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{address}/login", timeout=5):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"the reading room did not open at {address} ({error}); {log} says why") from None
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a.area + b.area - shared)
