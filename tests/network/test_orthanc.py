"""Everything that is said to an archive, said to Orthanc: by DIMSE and by its DICOMweb plugin.

Orthanc listens on every interface whatever its settings, so as root it runs in a network namespace that has nothing but
a loopback interface; the test's own thread, and with it those that it starts, enters that namespace.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx
import pytest
from pydicom import FileDataset, dcmread
from pydicom.uid import RLELossless, generate_uid
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.datasets import ReviewState, load_dataset
from mammoscope.network import (
    Caller,
    CommitmentClient,
    CommitmentReports,
    CommitmentService,
    DimsePeer,
    FoundStudy,
    Instance,
    QueryClient,
    QueryError,
    Receipt,
    ReceivedObject,
    Sender,
    StatusError,
    StorageService,
    WebClient,
    WebPeer,
    WebStatusError,
)

pytestmark = pytest.mark.pacs
MakeObject = Callable[..., FileDataset]
PATH = os.pathsep.join(
    folder
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin"]
    if Path(folder) != Path(sys.prefix, "bin")
)
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    dimse: DimsePeer
    web: WebPeer
    rest: str
    node_port: int
    """Where Orthanc takes the node to listen, for C-MOVE and commitment reports."""


def _need(what: str, found: object) -> None:
    if found:
        return
    reason = f"not installed: {what} (Debian packages orthanc, orthanc-dicomweb)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, free_ports, until, loopback_only) -> Iterator[Orthanc]:
    _need("Orthanc", shutil.which("Orthanc", path=PATH))
    _need(str(PLUGIN), PLUGIN.exists())
    folder = tmp_path_factory.mktemp("orthanc")
    with loopback_only():
        http, dicom, node = free_ports(3)
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": http,
            "AuthenticationEnabled": False,
            "RemoteAccessAllowed": False,
            "DicomAet": "ORTHANC",
            "DicomPort": dicom,
            "DicomCheckCalledAet": True,
            "OverwriteInstances": True,
            "StableAge": 2,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "DicomModalities": {
                "node": {"AET": "NODE", "Host": "127.0.0.1", "Port": node, "AllowStorageCommitment": True}
            },
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        rest = f"http://127.0.0.1:{http}"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["Orthanc", folder / "orthanc.json"], env={**os.environ, "PATH": PATH}, stdout=log, stderr=log
            )
        try:
            until(lambda: process.poll() is not None or _answers(rest))
            assert process.poll() is None, (folder / "log").read_text()
            yield Orthanc(
                DimsePeer("archive", "ORTHANC", "127.0.0.1", dicom),
                WebPeer("archive", f"{rest}/dicom-web"),
                rest,
                node,
            )
        finally:
            process.terminate()
            process.wait(60)


def _answers(rest: str) -> bool:
    try:
        return httpx.get(f"{rest}/system").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "incoming"


class Keeper:
    """A receiver that keeps files under their UIDs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def __call__(self, received: ReceivedObject) -> Receipt:
        os.link(received.path, self.folder / received.sop_instance_uid)
        return Receipt.STORED

    def kept(self) -> set[str]:
        return {file.name for file in self.folder.iterdir()}


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path / "kept")


@pytest.fixture
def study(orthanc: Orthanc, tmp_path: Path, make_object: MakeObject) -> list[FileDataset]:
    """Two mammograms of one study, one of them compressed, in the archive; taken out at the end."""
    images = [make_object(), make_object()]
    for image in images:
        image.StudyInstanceUID, image.StudyDate = images[0].StudyInstanceUID, "20260315"
        image.AccessionNumber = images[0].StudyInstanceUID[-12:]
    images[1].compress(RLELossless, generate_instance_uid=False)
    files = [tmp_path / f"{number}.dcm" for number in range(2)]
    for image, file in zip(images, files, strict=True):
        image.save_as(file, enforce_file_format=True)
    assert [s.error for s in Sender("NODE").send(files, orthanc.dimse)] == [None, None]
    return images


def test_stow_stores_and_says_what_was_not_taken(orthanc: Orthanc, tmp_path: Path, make_object: MakeObject) -> None:
    good, damaged = make_object(), make_object()
    files = [tmp_path / "good.dcm", tmp_path / "damaged.dcm"]
    good.save_as(files[0], enforce_file_format=True)
    del damaged.StudyInstanceUID
    damaged.save_as(files[1], enforce_file_format=True)
    first, second = Sender("NODE").send(files, orthanc.web)
    assert (first.sop_instance_uid, first.error) == (good.SOPInstanceUID, None)
    assert second.error is not None
    assert second.sop_instance_uid in str(second.error)
    found = httpx.post(f"{orthanc.rest}/tools/lookup", content=str(good.SOPInstanceUID)).json()
    kept = httpx.get(f"{orthanc.rest}/instances/{found[0]['ID']}/file").content
    (tmp_path / "kept.dcm").write_bytes(kept)
    assert dcmread(tmp_path / "kept.dcm") == good


def test_qido_finds_by_date_and_modality_page_by_page(monkeypatch, orthanc: Orthanc, study) -> None:
    uid = str(study[0].StudyInstanceUID)
    client = WebClient()
    day = {"since": date(2026, 3, 15), "until": date(2026, 3, 15)}
    found = {s.study_instance_uid: s for s in client.find_studies(orthanc.web, {"ModalitiesInStudy": "MG"}, **day)}
    assert found[uid] == FoundStudy(uid, "20260315", ("MG",), 2)
    assert uid not in {s.study_instance_uid for s in client.find_studies(orthanc.web, since=date(2026, 3, 16))}
    assert uid not in {s.study_instance_uid for s in client.find_studies(orthanc.web, {"ModalitiesInStudy": "CT"})}
    whole = [s.study_instance_uid for s in client.find_studies(orthanc.web)]
    monkeypatch.setattr("mammoscope.network.dicomweb.PAGE", 1)
    assert sorted(s.study_instance_uid for s in client.find_studies(orthanc.web)) == sorted(whole)


def test_wado_fetches_a_study_as_it_is_encoded(orthanc: Orthanc, study, folder: Path, keeper: Keeper) -> None:
    folder.mkdir()
    ended = WebClient().retrieve(orthanc.web, study[0].StudyInstanceUID, keeper, folder)
    assert (ended.completed, ended.failed, ended.complete) == (2, 0, True)
    for image in study:
        kept = dcmread(keeper.folder / image.SOPInstanceUID)
        assert kept.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
        assert kept == image
    assert list(folder.iterdir()) == []


def test_wado_of_a_study_that_is_not_there(orthanc: Orthanc, folder: Path, keeper: Keeper) -> None:
    with pytest.raises(WebStatusError, match=r"refused the retrieval of study 1\.2\.3 with HTTP status 404"):
        WebClient().retrieve(orthanc.web, "1.2.3", keeper, folder)


def test_c_find(orthanc: Orthanc, study) -> None:
    uid = str(study[0].StudyInstanceUID)
    client = QueryClient(Caller("NODE"))
    client.find_studies(orthanc.dimse)
    day = {"since": date(2026, 3, 15), "until": date(2026, 3, 15)}
    found = {s.study_instance_uid: s for s in client.find_studies(orthanc.dimse, {"ModalitiesInStudy": "MG"}, **day)}
    assert found[uid] == FoundStudy(uid, "20260315", ("MG",), 2)
    assert uid not in {s.study_instance_uid for s in client.find_studies(orthanc.dimse, until=date(2026, 3, 14))}
    assert uid not in {s.study_instance_uid for s in client.find_studies(orthanc.dimse, {"ModalitiesInStudy": "CT"})}
    with pytest.raises(QueryError, match="'Modalitys' is no keyword of DICOM"):
        client.find_studies(orthanc.dimse, {"Modalitys": "MG"})


def test_c_get(orthanc: Orthanc, study, folder: Path, keeper: Keeper) -> None:
    ended = QueryClient(Caller("NODE")).get(orthanc.dimse, study[0].StudyInstanceUID, keeper, folder)
    assert (ended.completed, ended.failed) == (2, 0)
    for image in study:
        kept = dcmread(keeper.folder / image.SOPInstanceUID)
        assert (kept.pixel_array == image.pixel_array).all()
    assert list(folder.iterdir()) == []


def test_c_move_to_our_own_service(orthanc: Orthanc, study, folder: Path, keeper: Keeper) -> None:
    client = QueryClient(Caller("NODE"))
    with StorageService("NODE", folder, keeper, port=orthanc.node_port):
        ended = client.move(orthanc.dimse, study[0].StudyInstanceUID, "NODE")
    assert (ended.completed, ended.failed) == (2, 0)
    assert keeper.kept() == {str(image.SOPInstanceUID) for image in study}
    with pytest.raises(StatusError, match=r"refused the retrieval of study .* with status 0x"):
        client.move(orthanc.dimse, study[0].StudyInstanceUID, "NOBODY")


def test_orthanc_asks_us_for_commitment(orthanc: Orthanc, study, folder: Path, keeper: Keeper, until) -> None:
    lost = str(study[1].SOPInstanceUID)
    service = CommitmentService(
        lambda _, instance: instance in keeper.kept() and instance != lost,
        lambda title: orthanc.dimse if title == "ORTHANC" else None,
        Caller("NODE"),
    )
    instances = [
        httpx.post(f"{orthanc.rest}/tools/lookup", content=str(image.SOPInstanceUID)).json()[0]["ID"] for image in study
    ]
    with StorageService("NODE", folder, keeper, port=orthanc.node_port, extensions=[service]):
        job = httpx.post(
            f"{orthanc.rest}/modalities/node/store",
            json={"Resources": instances, "StorageCommitment": True, "Synchronous": True},
            timeout=60,
        ).json()
        transaction = f"{orthanc.rest}/storage-commitment/{job['StorageCommitmentTransactionUID']}"
        until(lambda: httpx.get(transaction).json()["Status"] != "Pending")
    report = httpx.get(transaction).json()
    assert report["Status"] == "Failure"
    assert [item["SOPInstanceUID"] for item in report["Success"]] == [str(study[0].SOPInstanceUID)]
    assert [(item["SOPInstanceUID"], item["FailureReason"]) for item in report["Failures"]] == [(lost, 0x0112)]


def test_we_ask_orthanc_for_commitment(orthanc: Orthanc, study, folder: Path, keeper: Keeper) -> None:
    reports, caller = CommitmentReports(), Caller("NODE")
    service = CommitmentService(lambda *_: False, lambda _: None, caller, reports)
    kept, missing = str(study[0].SOPInstanceUID), generate_uid()
    with StorageService("NODE", folder, keeper, port=orthanc.node_port, extensions=[service]):
        report = CommitmentClient(caller, reports).ask(
            orthanc.dimse, [Instance(study[0].SOPClassUID, uid) for uid in (kept, missing)]
        )
    assert report.committed == {kept}
    assert dict(report.failed) == {missing: 0x0112}


PULLS = pytest.mark.parametrize("kind", ["dicomweb", "dimse"])


@PULLS
def test_dataset_pull(orthanc: Orthanc, study, kind: str, tmp_path: Path) -> None:
    address = orthanc.web.url if kind == "dicomweb" else f"ORTHANC@127.0.0.1:{orthanc.dimse.port}"
    numbers = tmp_path / "accessions.txt"
    numbers.write_text(f"\ufeff{study[0].AccessionNumber}\r\n\r\nACC-43\r\n", encoding="utf-8")
    command = ["dataset", "pull", "--ae-title", "NODE", "--from", kind, address, "--accessions", str(numbers)]
    out = tmp_path / "set"

    done = CliRunner().invoke(app, [*command, "--out", str(out)])

    assert done.exit_code == 1, done.output
    assert "not found: ACC-43" in done.output
    assert "1 studies with 2 mammograms fetched; 1 accession numbers not found" in done.output
    dataset = load_dataset(out)
    assert {image.path.stem for image in dataset} == {str(image.SOPInstanceUID) for image in study}
    assert {image.path.parent.name for image in dataset} == {str(study[0].StudyInstanceUID)}
    assert {image.review for image in dataset} == {ReviewState.UNANNOTATED}
    by_uid = {str(image.SOPInstanceUID): image for image in study}
    for image in dataset:
        assert (dcmread(image.path).pixel_array == by_uid[image.path.stem].pixel_array).all()

    again = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert "0 studies with 0 mammograms fetched; 1 accession numbers not found; 1 studies here already" in again.output


@PULLS
def test_dataset_pull_by_a_query(orthanc: Orthanc, study, kind: str, tmp_path: Path) -> None:
    address = orthanc.web.url if kind == "dicomweb" else f"ORTHANC@127.0.0.1:{orthanc.dimse.port}"
    uid = str(study[0].StudyInstanceUID)
    command = ["dataset", "pull", "--ae-title", "NODE", "--from", kind, address, "--where", f"StudyInstanceUID={uid}"]
    days = ["--since", "2026-03-15", "--until", "2026-03-15"]

    done = CliRunner().invoke(app, [*command, *days, "--out", str(tmp_path / "set")])
    assert done.exit_code == 0, done.output
    assert len(load_dataset(tmp_path / "set")) == 2

    nothing = CliRunner().invoke(app, [*command, "--since", "2026-03-16", "--out", str(tmp_path / "none")])
    assert nothing.exit_code == 0
    assert "0 studies with 0 mammograms" in nothing.output
    assert not (tmp_path / "none" / "annotations.json").exists()
