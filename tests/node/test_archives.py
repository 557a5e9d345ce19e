"""Pulling from Orthanc by DICOMweb, C-GET and C-MOVE, by the command and by the poller."""

import contextlib
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    SegmentationStorage,
)

from mammoscope.network import ObjectRefusedError, PeerUnreachableError, Receipt, ReceivedObject
from mammoscope.node.db.repository import Records, Report, ResultRecord
from mammoscope.node.retrieve.archives import NotTakenError, _intake
from mammoscope.phantom import screening_study

_SPEC = importlib.util.spec_from_file_location("end_to_end", Path(__file__).with_name("test_end_to_end.py"))
assert _SPEC
assert _SPEC.loader
end_to_end = importlib.util.module_from_spec(_SPEC)
sys.modules["end_to_end"] = end_to_end
_SPEC.loader.exec_module(end_to_end)
network = end_to_end.network

WEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
OLD, NEW = datetime(2026, 1, 15, 9), datetime(2026, 2, 20, 9)


@pytest.fixture
def archive(network, tmp_path: Path, wait_until) -> Iterator[object]:
    """Orthanc with two studies of four images, of January and February, and a CT of January."""
    if not WEB_PLUGIN.exists():
        pytest.skip(f"not installed: {WEB_PLUGIN} (Debian package orthanc-dicomweb)")
    folder = tmp_path / "orthanc"
    folder.mkdir()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(WEB_PLUGIN)],
        "HttpPort": network.http,
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "DicomAet": "ORTHANC",
        "DicomPort": network.orthanc,
        "DicomCheckCalledAet": True,
        "DicomModalities": {"mammoscope": {"AET": "NODE", "Host": "127.0.0.1", "Port": network.node}},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    process = network.start("Orthanc", folder / "orthanc.json", log=folder / "log")
    wait_until(lambda: end_to_end._ended(process) or end_to_end._answers(network))
    files = [
        *screening_study(1, rows=128, columns=96, taken=OLD).save(tmp_path / "old"),
        *screening_study(2, rows=128, columns=96, taken=NEW).save(tmp_path / "new"),
        _ct(tmp_path),
    ]
    network.run("storescu", "-aet", "ANYONE", "-aec", "ORTHANC", "127.0.0.1", str(network.orthanc), *files)
    yield network
    process.terminate()
    process.wait(30)


def _ct(folder: Path) -> Path:
    [file, *_] = screening_study(3, rows=128, columns=96, taken=OLD).save(folder / "ct")
    dataset = dcmread(file)
    dataset.Modality = "CT"
    dataset.save_as(file)
    return file


def study_uid(folder: Path) -> str:
    return str(dcmread(next(folder.glob("*.dcm"))).StudyInstanceUID)


@pytest.fixture
def node(archive, tmp_path: Path, wait_until) -> Iterator[Callable[..., Path]]:
    """Starts what receives for a node, with sources of all three kinds, and returns its settings file."""
    processes = []

    def start(poll_seconds: float = 0) -> Path:
        config = tmp_path / "node.toml"
        dimse = f'ae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {archive.orthanc}\n'
        config.write_text(
            f'[node]\nae_title = "NODE"\nport = {archive.node}\nstorage = "storage"\n'
            f'[[destinations]]\nname = "nowhere"\n{dimse}'
            f'[[sources]]\nname = "move"\nretrieve = "move"\n{dimse}'
            f'[[sources]]\nname = "get"\nretrieve = "get"\n{dimse}'
            f'[[sources]]\nname = "web"\ntransport = "dicomweb"\npoll_seconds = {poll_seconds}\n'
            f'url = "http://127.0.0.1:{archive.http}/dicom-web"\n'
        )
        script = Path(__file__).with_name("run_intake.py")
        processes.append(archive.start(sys.executable, script, config, log=tmp_path / "node.log"))
        wait_until(lambda: end_to_end._ended(processes[-1]) or (tmp_path / "storage" / "received").exists())
        return config

    yield start
    for process in processes:
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "node.log").read_text()


def received(config: Path) -> list[list[str]]:
    return [json.loads(line) for line in (config.parent / "storage" / "received").read_text().splitlines()]


def marks(config: Path) -> Counter[tuple[str, ...]]:
    """How many objects came, by study, calling title and originator."""
    return Counter((study, caller, originator) for study, caller, originator, _ in received(config))


# Several commands in one process, for Python is slow to start: lists of arguments in, exit codes and outputs out.
COMMANDS = """
import json, sys
from typer.testing import CliRunner
from mammoscope.cli import app
results = [CliRunner().invoke(app, ["node", "pull", *arguments]) for arguments in json.loads(sys.argv[1])]
print(json.dumps([[r.exit_code, f"{r.output}{r.exception or ''}"] for r in results]))
"""


def pull(network, config: Path, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """The exit code and the output of each command."""
    given = json.dumps([("-c", str(config), *command) for command in commands])
    done = network.run(sys.executable, "-c", COMMANDS, given)
    return [(code, output) for code, output in json.loads(done.stdout.splitlines()[-1])]


@pytest.mark.pacs
def test_an_archive_is_read_once_whatever_it_speaks(archive, node, tmp_path):
    config = node()
    old, new = (study_uid(tmp_path / name) for name in ("old", "new"))
    mammograms = ("--where", "ModalitiesInStudy=MG", "--since", "2026-01-01", "--source")
    sources = ("move", "get", "web")

    first = pull(archive, config, *((*mammograms, source, "--limit", "1") for source in sources))
    assert [code for code, _ in first] == [0, 0, 0], first
    assert all("1 studies with 4 objects fetched" in output for _, output in first)
    assert marks(config) == {(old, "ORTHANC", "NODE"): 4, (old, "NODE", "NODE"): 8}

    rest = pull(archive, config, *((*mammograms, source) for source in (*sources, *sources)))
    assert [output.splitlines()[0] for _, output in rest[:3]] == [f"1 studies to fetch from {s}" for s in sources]
    assert [output.splitlines()[0] for _, output in rest[3:]] == [f"0 studies to fetch from {s}" for s in sources]
    assert marks(config) == {
        (old, "ORTHANC", "NODE"): 4, (old, "NODE", "NODE"): 8,
        (new, "ORTHANC", "NODE"): 4, (new, "NODE", "NODE"): 8,
    }  # fmt: skip

    # A view comes late, after results were made that went elsewhere: it is fetched, by whichever protocol.
    made = tuple(ResultRecord(sop_class_uid="1.9", sop_instance_uid=f"1.3.{number}") for number in range(3))
    report = Report(number=1, made_at=OLD.astimezone(UTC), algorithm="Blob 1", seconds=1, images=(), results=made)
    with Records.open(tmp_path / "storage") as records:
        records.add_object(old, "1.2.1", "1.8", peer="ORTHANC")
        records.add_report(old, report)
    late = dcmread(next((tmp_path / "old").glob("*.dcm")))
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "1.2.99"
    late.save_as(tmp_path / "late.dcm")
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "1.2.98"  # beside it what makers add
    late.SOPClassUID = late.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    late.save_as(tmp_path / "segmentation.dcm")
    for file in ("segmentation.dcm", "late.dcm"):
        archive.run("storescu", "-R", "-aec", "ORTHANC", "127.0.0.1", str(archive.orthanc), tmp_path / file)
    again = pull(archive, config, *((*mammograms, source) for source in (*sources, *sources)))
    assert [output.splitlines()[0] for _, output in again[:3]] == [f"1 studies to fetch from {s}" for s in sources]
    assert all("1 studies with 6 objects fetched" in output for _, output in again[:3]), again
    assert [output.splitlines()[0] for _, output in again[3:]] == [f"0 studies to fetch from {s}" for s in sources]
    assert sum(uid == "1.2.99" for *_, uid in received(config)) == 3

    # An object is deleted there and another comes, so that there are as many as before: it is fetched all the same.
    [gone] = json.loads(archive.ask("POST", "/tools/lookup", "1.2.98"))
    archive.ask("DELETE", f"/instances/{gone['ID']}")
    late.SOPClassUID = late.file_meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "1.2.97"
    late.save_as(tmp_path / "other.dcm")
    archive.run("storescu", "-R", "-aec", "ORTHANC", "127.0.0.1", str(archive.orthanc), tmp_path / "other.dcm")
    last = pull(archive, config, *((*mammograms, source) for source in (*sources, *sources)))
    assert all("1 studies with 6 objects fetched" in output for _, output in last[:3]), last
    assert [output.splitlines()[0] for _, output in last[3:]] == [f"0 studies to fetch from {s}" for s in sources]
    assert sum(uid == "1.2.97" for *_, uid in received(config)) == 3


@pytest.mark.pacs
def test_dates_bound_what_is_read_and_mistakes_are_told(archive, node, tmp_path):
    config = node()
    since, web = ("--since", "2026-01-01"), ("--source", "web", "--where", "ModalitiesInStudy=MG")
    results = pull(
        archive,
        config,
        (*web, *since, "--until", "2026-01-31"),
        (*web, "--since", "2026-03-01"),
        (*since, "--source", "web", "--where", "Modality"),
        (*since, "--source", "move", "--where", "Colour=red"),
        (*web, *since, "--until", "2025-12-31"),
        since,
        (*since, "--source", "pacs"),
    )
    assert [code for code, _ in results] == [0, 0, 1, 1, 1, 1, 1]
    assert {study for study, *_ in received(config)} == {study_uid(tmp_path / "old")}
    for (_, output), told in zip(
        results,
        [
            "1 studies with 4 objects fetched",
            "0 studies to fetch",
            "--where Modality says nothing",
            "'Colour' is no keyword",
            "--until 2025-12-31 lies before --since 2026-01-01",
            "choose one with --source, move, get, web",
            "name no source 'pacs'",
        ],
        strict=True,
    ):
        assert told in output

    config.write_text(config.read_text().replace(f"port = {archive.node}", "port = 1"))
    [(_, output)] = pull(archive, config, (*since, "--source", "get"))
    assert "the node (NODE at 127.0.0.1 port 1) cannot be reached" in output


@pytest.mark.pacs
def test_the_poller_fetches_what_is_of_today(archive, node, tmp_path, wait_until):
    today = screening_study(4, rows=128, columns=96, taken=datetime.now()).save(tmp_path / "today")
    config = node(poll_seconds=1)
    archive.run("storescu", "-aet", "ANYONE", "-aec", "ORTHANC", "127.0.0.1", str(archive.orthanc), *today)
    # A poll in the midst of their coming fetches some, and the next one all of them again
    wait_until(lambda: len({image for *_, image in received(config)}) == 4)
    wait_until(lambda: '"objects": 4' in (config.parent / "storage" / "pulled" / "web.jsonl").read_text())
    assert set(marks(config)) == {(study_uid(tmp_path / "today"), "web", "NODE")}


A_RECEIVED_OBJECT = ReceivedObject(Path("x"), BreastTomosynthesisImageStorage, "1.2", "1", "MG", "web")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "the node cannot keep objects: No space left on device"),
        (ObjectRefusedError("the disk is nearly full", 0xA700), "the disk is nearly full"),
        (PeerUnreachableError("the node is gone"), "the node is gone"),
    ],
)
def test_a_node_that_takes_nothing_breaks_a_retrieval_off(error, told):
    offered = []

    def hand_over(received: ReceivedObject) -> Receipt:
        offered.append(received)
        raise error

    def retrieve() -> None:
        """A protocol that goes on whatever its receiver raises."""
        with _intake(hand_over) as take:
            for _ in range(3):
                with contextlib.suppress(Exception):
                    take(A_RECEIVED_OBJECT)

    with pytest.raises((NotTakenError, PeerUnreachableError), match=told):
        retrieve()
    assert len(offered) == 1


def test_an_object_that_the_node_does_not_want_breaks_nothing_off():
    def hand_over(received: ReceivedObject) -> Receipt:
        raise ObjectRefusedError(f"{received.sop_class_uid.name} is not read", 0x0122)

    with _intake(hand_over) as take:
        for _ in range(2):
            with pytest.raises(ObjectRefusedError, match="Tomosynthesis"):
                take(A_RECEIVED_OBJECT)
