import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import FileDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
)

from mammoscope.findings import Algorithm, Reading
from mammoscope.imaging import Mammogram
from mammoscope.network import Destination, ServiceError, StorageClient
from mammoscope.node import Node
from mammoscope.node.db.repository import DeliveryStatus, Records, RecordsError, StudyRecord, StudyState
from mammoscope.node.events import Origin
from mammoscope.results import ReadMammogram, StudyResults, study_results
from mammoscope.settings import NodeSettings

FULL_ANSWER = sorted(
    [
        MammographyCADSRStorage,
        Comprehensive3DSRStorage,
        *[GrayscaleSoftcopyPresentationStateStorage] * 4,
        SecondaryCaptureImageStorage,
    ]
)


NOTHING = StudyRecord(
    study_instance_uid="",
    state=StudyState.RECEIVING,
    origin=Origin.SENT,
    first_received_at=datetime.now(UTC),
    last_received_at=datetime.now(UTC),
)


def record_of(storage: Path, images: list[FileDataset]) -> StudyRecord:
    with Records.open(storage) as records:
        return records.study(str(images[0].StudyInstanceUID)) or NOTHING


def delivered(storage: Path, images: list[FileDataset], reports: int = 1) -> bool:
    record = record_of(storage, images)
    return len(record.reports) == reports and not any(r.pending for r in record.reports)


def relabelled(images: list[FileDataset], study: str) -> list[FileDataset]:
    """The same images as another study's."""
    copies = [copy.deepcopy(image) for image in images]
    for number, image in enumerate(copies):
        image.StudyInstanceUID, image.SOPInstanceUID = study, f"{study}.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return copies


def files_in(folder: Path) -> list[Path]:
    return sorted(Path(where) / name for where, _, names in os.walk(folder) for name in names)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def node(make_settings: Callable[..., NodeSettings], pacs, detector) -> Iterator[Node]:
    with Node(make_settings(pacs.port), detector) as node:
        yield node


def test_a_study_gets_its_answer(storage: Path, node: Node, pacs, images, send, wait_until) -> None:
    send(images, node)
    wait_until(lambda: delivered(storage, images))
    assert sorted(d.SOPClassUID for d in pacs.received) == FULL_ANSWER
    assert {d.StudyInstanceUID for d in pacs.received} == {images[0].StudyInstanceUID}
    assert {str(d.PatientName) for d in pacs.received} == {str(images[0].PatientName)}
    [report] = record_of(storage, images).reports
    assert {i.sop_instance_uid for i in report.images} == {i.SOPInstanceUID for i in images}
    assert {r.sop_instance_uid for r in report.results} == pacs.uids()
    assert record_of(storage, images).state is StudyState.DONE
    assert files_in(storage / "incoming") == []
    assert len(files_in(storage / "inbox")) == 4


def test_a_resend_changes_nothing(storage: Path, node: Node, pacs, images, send, wait_until) -> None:
    send(images + images, node)
    wait_until(lambda: delivered(storage, images))
    before = len(pacs.received)
    send(images, node)
    other_study = _relabelled(images, "1.2.3.4")
    send(other_study, node)  # by the time this is answered, a second answer to the first study would be there too
    wait_until(lambda: delivered(storage, other_study))
    assert len(record_of(storage, images).reports) == 1
    assert len(pacs.received) == before + len(FULL_ANSWER)


def test_our_own_results_sent_back_are_not_read(storage: Path, node: Node, pacs, images, send, wait_until) -> None:
    send(images, node)
    wait_until(lambda: delivered(storage, images))
    for result in pacs.received:
        result.remove_private_tags()
    send(list(pacs.received), node)
    other_study = _relabelled(images, "1.2.3.4")
    send(other_study, node)
    wait_until(lambda: delivered(storage, other_study))
    assert len(record_of(storage, images).reports) == 1


def test_a_late_image_makes_a_report_of_the_whole_study(
    storage: Path, node: Node, pacs, images, send, wait_until
) -> None:
    send(images[:3], node)
    wait_until(lambda: delivered(storage, images))
    send(images[3:], node)
    wait_until(lambda: delivered(storage, images, reports=2))
    first, second = record_of(storage, images).reports
    assert (len(first.images), len(second.images)) == (3, 4)
    assert sum(d.SOPClassUID == MammographyCADSRStorage for d in pacs.received) == 2


def test_a_study_of_which_no_image_can_be_decoded_is_answered_too(
    storage: Path, node: Node, pacs, images, send, wait_until
) -> None:
    for image in images:
        image.PixelData = image.PixelData[: len(image.PixelData) // 2 // 2 * 2]
    send(images, node)
    wait_until(lambda: delivered(storage, images))
    [report] = record_of(storage, images).reports
    assert all(image.reason for image in report.images)
    classes = [d.SOPClassUID for d in pacs.received]
    assert sorted(classes) == sorted([MammographyCADSRStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage])


def test_a_study_that_gives_no_results_is_put_aside_and_a_resend_is_a_new_try(
    storage: Path, node: Node, images, send, wait_until
) -> None:
    name = str(images[0].PatientName)
    images[0].PatientID = images[1].PatientID = "SOMEBODY-ELSE"  # two against two
    failed = storage / "failed" / images[0].StudyInstanceUID
    send(images, node)
    wait_until(lambda: len(record_of(storage, images).failures) == 1)
    [folder] = failed.iterdir()
    assert len(list(folder.glob("*.dcm"))) == 4
    reason = (folder / "reason.json").read_text()
    assert "PatientID" in reason
    assert "SOMEBODY-ELSE" not in reason
    assert name not in reason
    send(images[2:], node)
    wait_until(lambda: delivered(storage, images))


def test_odd_images_do_not_cost_the_study_its_answer(storage: Path, node: Node, pacs, images, send, wait_until) -> None:
    images[1].PatientID = "SOMEBODY-ELSE"
    del images[2].SeriesInstanceUID
    send(images, node)
    wait_until(lambda: delivered(storage, images))
    [report] = record_of(storage, images).reports
    assert len(report.images) == 4
    assert [p for p in report.problems if images[1].SOPInstanceUID in p and "another PatientID" in p]
    assert [p for p in report.problems if images[2].SOPInstanceUID in p and "SeriesInstanceUID" in p]
    assert "SOMEBODY-ELSE" not in "".join(report.problems)
    assert sum(d.SOPClassUID == MammographyCADSRStorage for d in pacs.received) == 1
    assert len(pacs.received) == 5  # two reports, two presentation states, sheet


def test_results_that_the_destination_refuses_are_parked_with_its_words_until_a_person_has_them_resent(
    storage: Path, node: Node, pacs, images, send, wait_until
) -> None:
    pacs.status = 0xA900
    send(images, node)
    wait_until(lambda: record_of(storage, images).state is StudyState.PARKED)
    [delivery] = record_of(storage, images).reports[0].deliveries
    assert {o.status for o in delivery.objects} == {DeliveryStatus.PARKED}
    assert len(delivery.objects) == len(FULL_ANSWER)
    assert "status 0xA900: the data set does not match its SOP class" in str(delivery.objects[0].error)
    assert pacs.received == []
    pacs.status = 0x0000
    node.records.resend(str(images[0].StudyInstanceUID))
    wait_until(lambda: record_of(storage, images).state is StudyState.DONE)
    assert sorted(d.SOPClassUID for d in pacs.received) == FULL_ANSWER


def test_what_could_not_be_delivered_goes_out_after_a_restart(
    storage: Path, make_settings, free_port: int, start_pacs, detector, images, send, wait_until
) -> None:
    settings = make_settings(free_port)
    with Node(settings, detector) as node:
        send(images, node)
        wait_until(lambda: record_of(storage, images).reports)
    assert record_of(storage, images).reports[0].pending
    pacs = start_pacs(free_port)
    with Node(settings, detector):
        wait_until(lambda: delivered(storage, images))
    assert len(pacs.received) == len(FULL_ANSWER)
    assert len(record_of(storage, images).reports) == 1


def test_a_lost_machine_is_restored_from_a_backup(
    make_settings, storage: Path, pacs, detector, images, send, wait_until, tmp_path: Path
) -> None:
    """As docs/node.md says it: stop, copy; later put the copy back, start, have what came since sent again."""
    settings = make_settings(pacs.port)
    pacs.status = 0xA700
    with Node(settings, detector) as node:
        send(images, node)
        wait_until(lambda: record_of(storage, images).reports and pacs.requests)
    subprocess.run(["cp", "-a", storage, tmp_path / "backup"], check=True)

    pacs.status = 0x0000
    since = relabelled(images, "1.2.826.0.1.77")
    with Node(settings, detector) as node:
        wait_until(lambda: delivered(storage, images))
        send(since, node)
        wait_until(lambda: delivered(storage, since))
    had = pacs.uids()

    shutil.rmtree(storage)  # the machine is lost
    subprocess.run(["cp", "-a", tmp_path / "backup", storage], check=True)
    assert not record_of(storage, since).objects
    with Node(settings, detector) as node:
        wait_until(lambda: delivered(storage, images))  # what the backup knew as waiting
        send([*images, *since], node)
        wait_until(lambda: delivered(storage, since))
        assert len(record_of(storage, images).reports) == 1
    assert pacs.uids() == had  # the same objects again, which an archive has already, and no others


def test_a_destination_taken_out_of_the_settings_does_not_hold_results_for_ever(
    storage: Path, make_settings, free_port: int, pacs, detector, images, send, wait_until
) -> None:
    with Node(make_settings(free_port), detector) as node:
        send(images, node)
        wait_until(lambda: record_of(storage, images).reports)
    settings = make_settings(pacs.port)
    renamed = settings.model_copy(
        update={"destinations": (settings.destinations[0].model_copy(update={"name": "new"}),)}
    )
    with Node(renamed, detector):
        wait_until(lambda: delivered(storage, images))
    [delivery] = record_of(storage, images).reports[0].deliveries
    assert delivery.errors == ("no destination of this name in the settings",)


def test_images_are_removed_when_they_need_not_be_kept(
    storage: Path, make_settings, pacs, detector, images, send, wait_until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mammoscope.node.jobs.scheduler.TIDY_EVERY_SECONDS", 0.5)
    with Node(make_settings(pacs.port, keep_images_hours=0), detector) as node:
        send(images, node)
        wait_until(lambda: delivered(storage, images))
        wait_until(lambda: files_in(storage / "inbox") == [])
        send(images, node)  # known though they are gone
        wait_until(lambda: files_in(storage / "outbox") == [])
        with pytest.raises(RecordsError, match="send them again"):
            node.records.retry(str(images[0].StudyInstanceUID))
    assert files_in(storage / "inbox") == []
    assert len(record_of(storage, images).reports) == 1


def test_an_image_that_arrives_while_its_study_fails_is_read(
    storage: Path, make_settings, pacs, detector, images, send, wait_until
) -> None:
    asked: list[int] = []

    def broken_once(read: Sequence[ReadMammogram], algorithm: Algorithm, **kinds: Any) -> StudyResults:
        asked.append(len(read))
        if len(asked) == 1:
            send(images[3:], node)
            raise RuntimeError
        return study_results(read, algorithm, **kinds)

    with Node(make_settings(pacs.port), detector, make_results=broken_once) as node:
        send(images[:3], node)
        wait_until(lambda: delivered(storage, images))
    assert asked == [3, 1]
    [failure] = record_of(storage, images).failures
    assert set(failure.images) == {i.SOPInstanceUID for i in images[:3]}


def test_a_study_interrupted_by_a_stop_is_read_at_the_next_start(
    storage: Path, make_settings, pacs, images, send, wait_until, detector
) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class SlowDetector(type(detector)):
        def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
            reading.set()
            go_on.wait(60)
            return super().read(mammogram, threshold)

    settings = make_settings(pacs.port)
    node = Node(settings, SlowDetector())
    node.start()
    send(images, node)
    assert reading.wait(60)
    stopping = threading.Thread(target=node.stop)
    stopping.start()
    wait_until(lambda: node._worker.stopping)
    go_on.set()
    stopping.join(60)
    assert record_of(storage, images).reports == ()
    with Node(settings, detector):
        wait_until(lambda: delivered(storage, images))
    [report] = record_of(storage, images).reports
    assert all(image.findings == 1 for image in report.images)


@pytest.mark.usefixtures("node")
def test_two_nodes_do_not_share_a_storage_folder(make_settings, pacs, detector) -> None:
    with pytest.raises(ServiceError, match="another node uses the storage folder"):
        Node(make_settings(pacs.port), detector).start()


def test_a_node_that_could_not_start_can_start_later(make_settings, pacs, detector) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        node = Node(make_settings(pacs.port, port=other.getsockname()[1]), detector)
        with pytest.raises(ServiceError, match="cannot listen"):
            node.start()
    with node:
        StorageClient("MODALITY").echo(Destination("node", "NODE", "127.0.0.1", node.port))


def test_a_storage_folder_of_an_older_version_is_refused(make_settings, pacs, detector, storage: Path) -> None:
    (storage / "records").mkdir(parents=True)
    (storage / "records" / "1.2.json").write_text("{}")
    with pytest.raises(ServiceError, match="made by an older Mammoscope"):
        Node(make_settings(pacs.port), detector).start()


@pytest.fixture
def start_process(tmp_path: Path, pacs, free_port: int) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(quiet_seconds: float) -> subprocess.Popen[str]:
        config = tmp_path / "node.toml"
        config.write_text(
            f'[node]\nae_title = "NODE"\nport = {free_port}\nstorage = "storage"\nquiet_seconds = {quiet_seconds}\n'
            f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs.port}\n'
        )
        with (tmp_path / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("run_node.py")), str(config)],
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        started.append(process)
        _wait_for_echo(free_port, process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_node_killed_between_acknowledgement_and_reading_reads_after_its_restart(
    storage: Path, start_process, free_port: int, pacs, images, wait_until
) -> None:
    process = start_process(quiet_seconds=600)
    destination = Destination("node", "NODE", "127.0.0.1", free_port)
    assert [s.error for s in StorageClient("MODALITY").send(images, destination)] == [None] * 4
    process.kill()
    process.wait()
    assert pacs.received == []
    assert record_of(storage, images).reports == ()
    start_process(quiet_seconds=2)
    wait_until(lambda: delivered(storage, images))
    assert sorted(d.SOPClassUID for d in pacs.received) == FULL_ANSWER


def test_sigterm_ends_it_in_order_and_the_log_holds_no_name(
    tmp_path: Path, storage: Path, start_process, free_port: int, images, wait_until
) -> None:
    process = start_process(quiet_seconds=2)
    StorageClient("MODALITY").send(images, Destination("node", "NODE", "127.0.0.1", free_port))
    wait_until(lambda: delivered(storage, images))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    log = (tmp_path / "log").read_text()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert [e for e in events if e != "echo"] == [
        "node started",
        *["object stored"] * 4,
        "study quiet",
        *["image read"] * 4,
        "study read",
        "results sent",
        "node stopped",
    ]
    for private in (images[0].PatientName, images[0].PatientID):
        assert str(private) not in log
        databases = [*storage.glob("*.sqlite*")]
        assert len(databases) >= 2
        assert not any(str(private).encode() in file.read_bytes() for file in databases)


def _wait_for_echo(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return StorageClient("MODALITY").echo(Destination("node", "NODE", "127.0.0.1", port))
        except Exception:
            assert process.poll() is None, "the node ended at its start"
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _relabelled(images: list[FileDataset], study: str) -> list[FileDataset]:
    others = []
    for number, image in enumerate(images):
        other = copy.deepcopy(image)
        other.StudyInstanceUID = study
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = f"{study}.{number}"
        others.append(other)
    return others
