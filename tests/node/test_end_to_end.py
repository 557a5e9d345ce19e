"""The node beside real peers: a study goes from DCMTK into Orthanc, from there to the node, and its results back.

Orthanc listens on every interface whatever its settings, so as root it runs in a network namespace that has nothing but
a loopback interface, and the node with it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    Comprehensive3DSRStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    GrayscaleSoftcopyPresentationStateStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.node.db.repository import Records, StudyRecord

pytestmark = pytest.mark.pacs

# Without the environment's own programs: pynetdicom installs an echoscu and a storescu too, and these are no peers.
PATH = os.pathsep.join(
    folder
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin"]
    if Path(folder) != Path(sys.prefix, "bin")
)
TOOLS = ("Orthanc", "storescu", "echoscu", "dcmcrle")
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("AccessionNumber", "StudyInstanceUID", "StudyDate")

ROUTE_MAMMOGRAMS = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  if tags['SOPClassUID'] == '%s' and origin['RemoteAet'] ~= 'NODE' and origin['RemoteAet'] ~= 'LOADER' then
    SendToModality(instanceId, 'mammoscope')
  end
end
"""
# Asks Orthanc from inside its namespace: METHOD URL BODY on the command line, the answer on standard output.
REST = """
import sys, urllib.request
method, url, body = sys.argv[1:]
request = urllib.request.Request(url, data=body.encode() or None, method=method)
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=60).read())
"""


@dataclass(frozen=True)
class Network:
    """How to run a command where the peers are, and the ports they use."""

    prefix: tuple[str, ...]
    http: int
    orthanc: int
    node: int

    def start(self, *command: str | Path, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PATH": PATH}
            return subprocess.Popen([*self.prefix, *map(str, command)], stdout=output, stderr=output, env=environment)

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "PATH": PATH}
        finished = subprocess.run(
            [*self.prefix, *map(str, command)], capture_output=True, timeout=120, env=environment, check=False
        )
        assert not check or finished.returncode == 0, finished.stderr.decode() + finished.stdout.decode()
        return finished

    def ask(self, method: str, path: str, body: object = "") -> bytes:
        text = body if isinstance(body, str) else json.dumps(body)
        return self.run(sys.executable, "-IS", "-c", REST, method, f"http://127.0.0.1:{self.http}{path}", text).stdout

    def get(self, path: str) -> Any:
        return json.loads(self.ask("GET", path))


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)} (Debian packages orthanc and dcmtk)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    ports = _free_ports(3)
    name = f"mammoscope-{uuid.uuid4().hex[:8]}"
    if not _make_namespace(name):
        yield Network((), *ports)
        return
    try:
        yield Network(("ip", "netns", "exec", name), *ports)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, env={"PATH": PATH})


@pytest.fixture
def orthanc(request: pytest.FixtureRequest, network: Network, tmp_path: Path, wait_until) -> Iterator[Network]:
    """A PACS; a test may say more of what it knows of the node."""
    folder = tmp_path / "orthanc"
    folder.mkdir()
    (folder / "route.lua").write_text(ROUTE_MAMMOGRAMS % DigitalMammographyXRayImageStorageForPresentation)
    peer = {"Host": "127.0.0.1", "AllowStore": True}
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "LuaScripts": [str(folder / "route.lua")],
        "HttpPort": network.http,
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "DicomAet": "ORTHANC",
        "DicomPort": network.orthanc,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": False,
        "OverwriteInstances": True,
        "MaximumPduLength": 131072,
        "DicomModalities": {
            "mammoscope": {"AET": "NODE", "Port": network.node, **peer, **getattr(request, "param", {})},
            "modality": {"AET": "MODALITY", "Port": 104, **peer},
            "loader": {"AET": "LOADER", "Port": 104, **peer},
        },
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    process = network.start("Orthanc", folder / "orthanc.json", log=folder / "log")
    wait_until(lambda: _ended(process) or _answers(network))
    yield network
    process.terminate()
    process.wait(30)


@pytest.fixture
def node(request: pytest.FixtureRequest, network: Network, tmp_path: Path, wait_until) -> Iterator[Path]:
    """A node that sends to Orthanc; yields its folder, with ``storage`` and ``log`` in it.

    A test may give it more of a settings file: sections, or keys of ``[node]``.
    """
    folder = tmp_path / "node"
    folder.mkdir()
    more = getattr(request, "param", "")
    keys, sections = ("", more) if more.lstrip().startswith("[") else (more, "")
    (folder / "node.toml").write_text(
        f'[node]\nae_title = "NODE"\nport = {network.node}\nstorage = "storage"\nquiet_seconds = 3\n'
        f'allowed_callers = ["ORTHANC", "MODALITY"]\n{keys}'
        f'[[destinations]]\nname = "orthanc"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {network.orthanc}\n'
        + sections
    )
    script = Path(__file__).with_name("run_node.py")
    process = network.start(sys.executable, script, folder / "node.toml", log=folder / "log")
    wait_until(lambda: _ended(process) or "node started" in (folder / "log").read_text())
    yield folder
    process.terminate()
    assert process.wait(60) == 0


@pytest.fixture
def study(images: list[FileDataset], tmp_path: Path) -> list[Path]:
    return [tmp_path / "study" / Path(image.filename).name for image in images]


def test_a_study_routed_by_the_pacs_comes_back_with_its_results(
    orthanc: Network, node: Path, images: list[FileDataset], study: list[Path], wait_until: Callable[..., None]
) -> None:
    orthanc.run("storescu", "-aet", "MODALITY", "-aec", "ORTHANC", "127.0.0.1", str(orthanc.orthanc), *study)
    wait_until(lambda: "results sent" in (node / "log").read_text(), 120)
    kept = _objects_of(orthanc, images[0].StudyInstanceUID)
    results = [d for d in kept.values() if d.SOPClassUID != DigitalMammographyXRayImageStorageForPresentation]
    assert len(kept) - len(results) == 4

    [report] = [d for d in results if d.SOPClassUID == MammographyCADSRStorage]
    states = [d for d in results if d.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage]
    [capture] = [d for d in results if d.SOPClassUID == SecondaryCaptureImageStorage]
    [ai_report] = [d for d in results if d.SOPClassUID == Comprehensive3DSRStorage]
    assert len(results) == 1 + 1 + len(states) + 1
    sent = {str(image.SOPInstanceUID) for image in images}
    assert _references(report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence) == sent
    assert sorted(uid for state in states for uid in _references(state.ReferencedSeriesSequence)) == sorted(sent)
    for result in (report, ai_report, *states, capture):
        for keyword in (*PATIENT, *STUDY):
            assert result.get(keyword) == images[0].get(keyword), keyword

    # The PACS sends all of it once more, our results included: nothing new is made, nothing is refused.
    resent = json.loads(
        orthanc.ask("POST", "/modalities/mammoscope/store", {"Resources": list(kept), "Synchronous": True})
    )
    assert (resent["InstancesCount"], resent["FailedInstancesCount"]) == (len(kept), 0)
    events = [json.loads(line)["event"] for line in (node / "log").read_text().splitlines()]
    assert events.count("object known") == 4
    assert events.count("object ignored") == len(results)
    assert "study quiet" not in events[events.index("results sent") :]
    assert _objects_of(orthanc, images[0].StudyInstanceUID).keys() == kept.keys()
    assert len(_record(node, images).reports) == 1


def test_dcmtk_reaches_the_node(
    orthanc: Network,
    node: Path,
    images: list[FileDataset],
    study: list[Path],
    tmp_path: Path,
    wait_until: Callable[..., None],
) -> None:
    port = str(orthanc.node)
    orthanc.run("echoscu", "-aet", "MODALITY", "-aec", "NODE", "127.0.0.1", port)
    wrong_title = orthanc.run("echoscu", "-aet", "MODALITY", "-aec", "OTHER", "127.0.0.1", port, check=False)
    assert b"Called AE Title Not Recognized" in wrong_title.stderr + wrong_title.stdout
    stranger = orthanc.run("echoscu", "-aet", "STRANGER", "-aec", "NODE", "127.0.0.1", port, check=False)
    assert b"Calling AE Title Not Recognized" in stranger.stderr + stranger.stdout

    compressed = [tmp_path / f"rle-{file.name}" for file in study]
    for plain, file in zip(study, compressed, strict=True):
        orthanc.run("dcmcrle", plain, file)
    orthanc.run("storescu", "-xr", "-aet", "MODALITY", "-aec", "NODE", "127.0.0.1", port, *compressed)
    wait_until(lambda: "results sent" in (node / "log").read_text(), 120)
    [report] = _record(node, images).reports
    assert {str(image.status) for image in report.images} == {"found"}


RULES = """
[[rules]]
name = "spare"
where = { StationName = "spare*" }
read = false
[[rules]]
name = "back"
callers = ["ORTHANC"]
threshold = 0.95
back_to_sender = true
results = ["cad-sr"]
"""


@pytest.mark.parametrize("node", [RULES], indirect=True)
def test_rules_decide_by_station_and_sender(
    orthanc: Network, node: Path, images: list[FileDataset], study: list[Path], wait_until: Callable[..., None]
) -> None:
    orthanc.run("storescu", "-aet", "MODALITY", "-aec", "ORTHANC", "127.0.0.1", str(orthanc.orthanc), *study)
    wait_until(lambda: "results sent" in (node / "log").read_text(), 120)
    kept = _objects_of(orthanc, images[0].StudyInstanceUID).values()
    [report] = [d for d in kept if d.SOPClassUID != DigitalMammographyXRayImageStorageForPresentation]
    assert report.SOPClassUID == MammographyCADSRStorage
    assert "threshold=0.95" in report.to_json()
    [told] = _record(node, images).reports
    assert {(image.rule, image.threshold, image.findings) for image in told.images} == {("back", 0.95, 0)}

    # One of a station that is not read: recorded, and nothing of it sent.
    for number, file in enumerate(study):
        spare = dcmread(file)
        spare.StationName, spare.StudyInstanceUID, spare.SOPInstanceUID = "SPARE ROOM", "1.2.7", f"1.2.7.{number}"
        spare.AccessionNumber, spare.file_meta.MediaStorageSOPInstanceUID = "NORTH-7", spare.SOPInstanceUID
        spare.save_as(file)
    orthanc.run("storescu", "-aet", "MODALITY", "-aec", "NODE", "127.0.0.1", str(orthanc.node), *study)
    command = ("node", "show", "--accession", "NORTH-7", "--json", "--config", str(node / "node.toml"))

    def shown() -> list[dict[str, Any]]:
        result = CliRunner().invoke(app, command)
        return json.loads(result.output) if result.exit_code == 0 else []

    wait_until(lambda: shown() and shown()[0]["reports"], 120)
    [unread] = shown()
    assert (unread["study_instance_uid"], unread["state"]) == ("1.2.7", "done")
    assert unread["reports"][0]["deliveries"] == []
    assert {image["reason_code"] for image in unread["reports"][0]["images"]} == {"rule"}
    assert json.loads(orthanc.ask("POST", "/tools/lookup", "1.2.7")) == []
    assert b"NORTH-7" not in (node / "storage" / "node.sqlite").read_bytes() + (node / "log").read_bytes()


@pytest.mark.parametrize("node", ["shadow = true\n"], indirect=True)
def test_shadow_mode_sends_nothing_and_tells_what_each_threshold_would_mark(
    orthanc: Network, node: Path, images: list[FileDataset], study: list[Path], wait_until: Callable[..., None]
) -> None:
    orthanc.run("storescu", "-aet", "MODALITY", "-aec", "NODE", "127.0.0.1", str(orthanc.node), *study)
    wait_until(lambda: "study read" in (node / "log").read_text(), 120)

    def report(*options: str) -> dict[str, Any]:
        command = ("node", "report", "--since", "2000-01-01", "--json", "--config", str(node / "node.toml"), *options)
        return json.loads(CliRunner().invoke(app, command, catch_exceptions=False).output)

    found = [image for told in _record(node, images).reports for image in told.images]
    assert sum(image.findings for image in found) == 4
    told = report("--threshold", "0.2", "--threshold", "0.99")["total"]
    marks = {row["threshold"]: row["marks"] for row in told["at"]}
    assert (marks[0.2], marks[0.99]) == (4, 0)
    assert report("--marks-per-image", "1")["chosen"]["reached"] == 1.0
    assert json.loads(orthanc.ask("POST", "/tools/lookup", str(images[0].StudyInstanceUID))) == []


@pytest.mark.parametrize("orthanc", [{"AllowStore": False}], indirect=True)
def test_what_a_pacs_refuses_is_told_with_what_to_mend_there(
    orthanc: Network, node: Path, images: list[FileDataset], study: list[Path], wait_until: Callable[..., None]
) -> None:
    """Orthanc knows the node and does not let it store."""
    orthanc.run("storescu", "-aet", "MODALITY", "-aec", "NODE", "127.0.0.1", str(orthanc.node), *study)
    wait_until(lambda: "results not sent yet" in (node / "log").read_text(), 120)
    [line, *_] = [line for line in (node / "log").read_text().splitlines() if "results not sent yet" in line]
    reason = json.loads(line)["reason"]
    assert reason.startswith(f"orthanc (ORTHANC at 127.0.0.1 port {orthanc.orthanc}) ended the association")
    assert reason.endswith("see there whether our AE title is allowed this")
    assert json.loads(orthanc.ask("POST", "/tools/lookup", str(images[0].StudyInstanceUID))) == []


@pytest.mark.parametrize("place", [0, 2])
def test_a_tomosynthesis_object_costs_no_mammogram(
    orthanc: Network,
    node: Path,
    images: list[FileDataset],
    study: list[Path],
    place: int,
    wait_until: Callable[..., None],
) -> None:
    """Orthanc ends a job at the first failure: an object that is not read must be answered with success."""
    tomosynthesis = dcmread(study[0])
    tomosynthesis.SOPClassUID = tomosynthesis.file_meta.MediaStorageSOPClassUID = BreastTomosynthesisImageStorage
    tomosynthesis.SOPInstanceUID = tomosynthesis.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    tomosynthesis.NumberOfFrames = 2
    tomosynthesis.PixelData = tomosynthesis.PixelData * 2
    tomosynthesis.save_as(study[0].with_name("tomosynthesis.dcm"))
    order = [*study[:3]]
    order.insert(place, study[0].with_name("tomosynthesis.dcm"))
    ids = []
    for file in order:
        # Not as a modality, whose mammograms are routed one by one
        sent = orthanc.run(
            "storescu", "-R", "-aet", "LOADER", "-aec", "ORTHANC", "127.0.0.1", str(orthanc.orthanc), file
        )
        assert sent.returncode == 0
        ids += json.loads(orthanc.ask("POST", "/tools/lookup", str(dcmread(file).SOPInstanceUID)))
    job = json.loads(
        orthanc.ask("POST", "/modalities/mammoscope/store", {"Resources": [i["ID"] for i in ids], "Synchronous": True})
    )
    assert (job["InstancesCount"], job["FailedInstancesCount"]) == (4, 0)
    wait_until(lambda: "results sent" in (node / "log").read_text(), 120)

    [report] = _record(node, images).reports
    said = {image.sop_instance_uid: image.reason for image in report.images}
    assert len(said) == 4
    assert "tomosynthesis" in said.pop(str(tomosynthesis.SOPInstanceUID))
    assert set(said.values()) == {None}
    kept = node / "storage" / "inbox" / str(tomosynthesis.StudyInstanceUID) / f"{tomosynthesis.SOPInstanceUID}.dcm"
    assert kept.stat().st_size < 100_000  # its header alone

    # The fourth view never came: no report says that all succeeded, and each names the view
    absent = f"No image of the expected view {images[3].ImageLaterality} {images[3].ViewPosition} was received."
    assert report.absent_views == (f"{images[3].ImageLaterality}{images[3].ViewPosition}",)
    results = _objects_of(orthanc, str(images[0].StudyInstanceUID)).values()
    [cad_sr] = [d for d in results if d.SOPClassUID == MammographyCADSRStorage]
    told = cad_sr.to_json()
    assert "All algorithms succeeded" not in told
    assert "Not all algorithms succeeded" in told
    assert absent in told
    assert str(tomosynthesis.SOPInstanceUID) in told


def _record(node: Path, images: list[FileDataset]) -> StudyRecord:
    with Records.open(node / "storage") as records:
        record = records.study(str(images[0].StudyInstanceUID))
    assert record is not None
    return record


def _objects_of(orthanc: Network, study: str) -> dict[str, Dataset]:
    """All objects of a study, by Orthanc's identifier."""
    [found] = json.loads(orthanc.ask("POST", "/tools/lookup", study))
    instances = [instance["ID"] for instance in orthanc.get(f"/studies/{found['ID']}/instances")]
    return {i: dcmread(BytesIO(orthanc.ask("GET", f"/instances/{i}/file"))) for i in instances}


def _references(series: list[Dataset]) -> set[str]:
    uids = set()
    for item in series:
        for keyword in ("ReferencedSOPSequence", "ReferencedImageSequence"):
            uids |= {str(reference.ReferencedSOPInstanceUID) for reference in item.get(keyword, [])}
    return uids


def _answers(network: Network) -> bool:
    url = f"http://127.0.0.1:{network.http}/system"
    return network.run(sys.executable, "-IS", "-c", REST, "GET", url, "", check=False).returncode == 0


def _ended(process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"it ended at its start with {process.returncode}"
    return False


def _make_namespace(name: str) -> bool:
    """Make a network namespace with a loopback interface only; whether that is allowed here."""
    if os.geteuid() != 0 or shutil.which("ip", path=PATH) is None:
        return False
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False, env={"PATH": PATH})
    if made.returncode != 0:
        return False
    up = ["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"]
    if subprocess.run(up, capture_output=True, check=False, env={"PATH": PATH}).returncode == 0:
        return True
    subprocess.run(["ip", "netns", "delete", name], check=False, env={"PATH": PATH})
    return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()
