"""Pulling from Orthanc by DICOMweb, C-GET and C-MOVE, by the command and by the poller."""

import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from pydicom import dcmread
from pydicom.uid import BreastTomosynthesisImageStorage

from mammoscope.network import ObjectRefusedError, PeerUnreachableError, Receipt, ReceivedObject
from mammoscope.node.archives import NotTakenError, _intake
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
            f'url = "http://127.0.0.1:{archive.http}/dicom-web"\nwhere = {{ StudyDescription = "*" }}\n'
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


def pull(network, config: Path, *arguments: str) -> CompletedProcess[bytes]:
    command = (sys.executable, "-m", "mammoscope", "node", "pull", "-c", config, *arguments)
    return network.run(*command, check=False)


@pytest.mark.pacs
@pytest.mark.parametrize(("source", "sender"), [("move", "ORTHANC"), ("get", "NODE"), ("web", "NODE")])
def test_an_archive_is_read_once_whatever_it_speaks(archive, node, tmp_path, source, sender):
    config = node()
    old, new = (study_uid(tmp_path / name) for name in ("old", "new"))
    modality = ("--where", "ModalitiesInStudy=MG")

    first = pull(archive, config, "--source", source, *modality, "--since", "2026-01-01", "--limit", "1")
    assert first.returncode == 0, first.stderr
    assert b"1 studies with 4 objects fetched" in first.stdout
    assert Counter(map(tuple, received(config))) == {(old, sender, "NODE"): 4}

    second = pull(archive, config, "--source", source, *modality, "--since", "2026-01-01")
    assert second.returncode == 0, second.stderr
    assert Counter(map(tuple, received(config))) == {(old, sender, "NODE"): 4, (new, sender, "NODE"): 4}

    third = pull(archive, config, "--source", source, *modality, "--since", "2026-01-01")
    assert b"0 studies to fetch" in third.stdout
    assert len(received(config)) == 8


@pytest.mark.pacs
def test_the_poller_fetches_what_is_of_today(archive, node, tmp_path, wait_until):
    today = screening_study(4, rows=128, columns=96, taken=datetime.now()).save(tmp_path / "today")
    config = node(poll_seconds=1)
    archive.run("storescu", "-aet", "ANYONE", "-aec", "ORTHANC", "127.0.0.1", str(archive.orthanc), *today)
    wait_until(lambda: len(received(config)) >= 4)
    wait_until(lambda: "polled" in (config.parent / "storage" / "pulled" / "web.jsonl").read_text())
    assert Counter(map(tuple, received(config))) == {(study_uid(tmp_path / "today"), "web", "NODE"): 4}


@pytest.mark.pacs
def test_what_is_wrong_is_said_in_one_sentence(archive, node, tmp_path):
    config = node()
    nonsense = pull(archive, config, "--source", "web", "--since", "2026-01-01", "--where", "Modality")
    assert nonsense.returncode == 2
    assert b"--where Modality says nothing" in nonsense.stderr
    unknown = pull(archive, config, "--source", "move", "--since", "2026-01-01", "--where", "Colour=red")
    assert unknown.returncode == 2
    assert b"'Colour' is no keyword" in unknown.stderr

    config.write_text(config.read_text().replace(f"port = {archive.node}", "port = 1"))
    gone = pull(archive, config, "--source", "get", "--since", "2026-01-01")
    assert gone.returncode == 2
    assert b"the node (NODE at 127.0.0.1 port 1) cannot be reached" in gone.stderr


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

    with pytest.raises((NotTakenError, PeerUnreachableError), match=told), _intake(hand_over) as take:
        for _ in range(3):
            try:  # a protocol that goes on whatever its receiver raises
                take(A_RECEIVED_OBJECT)
            except Exception as ours:
                assert told in str(ours)
    assert len(offered) == 1


def test_an_object_that_the_node_does_not_want_breaks_nothing_off():
    def hand_over(received: ReceivedObject) -> Receipt:
        raise ObjectRefusedError(f"{received.sop_class_uid.name} is not read", 0x0122)

    with _intake(hand_over) as take:
        for _ in range(2):
            with pytest.raises(ObjectRefusedError, match="Tomosynthesis"):
                take(A_RECEIVED_OBJECT)
