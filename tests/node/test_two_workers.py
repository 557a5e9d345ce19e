"""Two workers on PostgreSQL, real processes both, one of them killed."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import FileDataset
from pydicom.uid import MammographyCADSRStorage

from mammoscope.network import Destination, NetworkError, StorageClient
from mammoscope.node.db.repository import Records, StudyState


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a worker as a process, its log beside."""
    started: list[subprocess.Popen[bytes]] = []

    def start(config: Path, name: str, *options: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("run_node.py")), str(config), *options],
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_text().splitlines()]


def test_the_work_of_a_killed_worker_is_taken_over_and_nothing_is_lost_or_done_twice(
    tmp_path: Path, postgresql: str, start, pacs, images: list[FileDataset], wait_until
) -> None:
    port = _free_port()
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\nae_title = "NODE"\nport = {port}\nstorage = "storage"\nquiet_seconds = 1\ndatabase = "{postgresql}"\n'
        f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs.port}\n'
    )
    start(config, "receiver", "--seconds", "0.5", "--dead-after", "6")
    node = Destination("node", "NODE", "127.0.0.1", port)
    wait_until(lambda: _answers(node), 120)
    helper = start(config, "helper", "--work", "--seconds", "0.5", "--dead-after", "6")
    wait_until(lambda: "worker started" in events(tmp_path / "helper.log"), 120)

    studies = [_relabelled(images, f"1.2.3.{number}") for number in range(6)]
    for study in studies:
        assert [s.error for s in StorageClient("MODALITY").send(study, node)] == [None] * len(study)

    def helper_is_reading() -> bool:
        seen = Counter(events(tmp_path / "helper.log"))
        return seen["study quiet"] > seen["study read"] and bool(seen["image read"])

    wait_until(helper_is_reading, 120)
    helper.send_signal(signal.SIGKILL)
    helper.wait()
    assert "study read" not in events(tmp_path / "helper.log")[-1:]

    with Records.open(tmp_path / "storage", postgresql) as records:
        wait_until(lambda: records.counts().studies[StudyState.DONE] == len(studies), 240)
        stored = [records.study(str(study[0].StudyInstanceUID)) for study in studies]
    assert "work of a dead worker taken over" in events(tmp_path / "receiver.log")
    for study, record in zip(studies, stored, strict=True):
        assert record is not None
        [report] = record.reports
        assert {image.sop_instance_uid for image in report.images} == {str(i.SOPInstanceUID) for i in study}
        assert [image.findings for image in report.images] == [1] * 4
    received = Counter(str(dataset.SOPInstanceUID) for dataset in pacs.received)
    assert set(received.values()) == {1}
    made = {result.sop_instance_uid for record in stored if record for r in record.reports for result in r.results}
    assert received.keys() == made
    assert sum(d.SOPClassUID == MammographyCADSRStorage for d in pacs.received) == len(studies)
    log = (tmp_path / "receiver.log").read_text() + (tmp_path / "helper.log").read_text()
    assert str(images[0].PatientName) not in log


def test_a_worker_that_was_stopped_while_it_sent_sends_nothing_more(
    tmp_path: Path, postgresql: str, start, pacs, images: list[FileDataset], wait_until
) -> None:
    """As a machine that was suspended: meanwhile the other worker did the sending."""
    port = _free_port()
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\nae_title = "NODE"\nport = {port}\nstorage = "storage"\nquiet_seconds = 1\ndatabase = "{postgresql}"\n'
        f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs.port}\n'
    )
    pacs.seconds, pacs.once = 1.5, True
    receiver = start(config, "receiver", "--dead-after", "6")
    node = Destination("node", "NODE", "127.0.0.1", port)
    wait_until(lambda: _answers(node), 120)
    assert [s.error for s in StorageClient("MODALITY").send(images, node)] == [None] * 4
    wait_until(lambda: pacs.received, 120)
    receiver.send_signal(signal.SIGSTOP)
    start(config, "helper", "--work", "--dead-after", "6")
    with Records.open(tmp_path / "storage", postgresql) as records:
        wait_until(lambda: records.counts().studies[StudyState.DONE] == 1, 240)
        [record] = records.studies()
    assert "work of a dead worker taken over" in events(tmp_path / "helper.log")
    made = {result.sop_instance_uid for report in record.reports for result in report.results}
    asked = pacs.requests
    assert asked <= len(made) + 1  # the one whose answer was on its way when we were stopped

    receiver.send_signal(signal.SIGCONT)
    wait_until(lambda: "sending left to another worker" in events(tmp_path / "receiver.log"), 60)
    assert pacs.requests == asked
    assert Counter(str(dataset.SOPInstanceUID) for dataset in pacs.received) == dict.fromkeys(made, 1)
    with Records.open(tmp_path / "storage", postgresql) as records:
        assert records.counts().studies[StudyState.DONE] == 1


def test_a_worker_that_lives_is_seen_to_live(tmp_path: Path, postgresql: str) -> None:
    with Records.open(tmp_path, postgresql) as records:
        for _ in range(3):
            records.beat("helper", "here", 1)
        assert [(worker.name, worker.beats) for worker in records.workers()] == [("helper", 2)]


def _relabelled(images: list[FileDataset], study: str) -> list[FileDataset]:
    copies = copy.deepcopy(images)
    for number, image in enumerate(copies):
        image.StudyInstanceUID = study
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{study}.{number}"
        image.SeriesInstanceUID = f"{study}.9"
    return copies


def _answers(node: Destination) -> bool:
    try:
        StorageClient("MODALITY").echo(node)
    except NetworkError:
        time.sleep(0.3)
        return False
    return True


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
