"""Finding and fetching from DCMTK's archive, and what is told when an archive cannot be asked."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find  # type: ignore[attr-defined]
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as Move  # type: ignore[attr-defined]

from mammoscope.network import (
    Caller,
    ContextNotAcceptedError,
    DimsePeer,
    FoundStudy,
    ObjectRefusedError,
    QueryClient,
    Receipt,
    ReceivedObject,
    Retrieval,
    StatusError,
    StorageClient,
    StorageService,
)
from mammoscope.network.query_retrieve import matches, study_date_range

MakeObject = Callable[..., FileDataset]
PATH = os.pathsep.join(f for f in os.environ.get("PATH", "").split(os.pathsep) if Path(f) != Path(sys.prefix, "bin"))


@pytest.fixture
def node_port(free_ports) -> int:
    return int(free_ports(1)[0])


@pytest.fixture
def archive(tmp_path: Path, free_ports, node_port: int, until) -> Iterator[DimsePeer]:
    tool = shutil.which("dcmqrscp", path=PATH)
    if tool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("not installed: dcmqrscp (Debian package dcmtk)")
        pytest.skip("not installed: dcmqrscp (Debian package dcmtk)")
    [port] = free_ports(1)
    (tmp_path / "db").mkdir()
    config = tmp_path / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nnode = (NODE, 127.0.0.1, {node_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {tmp_path / 'db'} RW (200, 1024mb) ANY\nAETable END\n"
    )
    process = subprocess.Popen([tool, "-c", config])
    try:
        until(lambda: _listens(port))
        yield DimsePeer("archive", "ARCHIVE", "127.0.0.1", port)
    finally:
        process.terminate()
        process.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def study(archive: DimsePeer, make_object: MakeObject) -> list[FileDataset]:
    images = [make_object(), make_object()]
    for number, image in enumerate(images):
        image.StudyInstanceUID, image.StudyDate, image.StudyTime = images[0].StudyInstanceUID, "20260315", "1200"
        image.StudyID, image.SeriesNumber, image.InstanceNumber = "1", 1, number
    assert [s.error for s in StorageClient("NODE").send(images, archive)] == [None, None]
    return images


class Keeper:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.peers: set[tuple[str, str]] = set()
        self.refuse = ""

    def __call__(self, received: ReceivedObject) -> Receipt:
        if received.sop_instance_uid == self.refuse:
            raise ObjectRefusedError("other pixels under the same UID", 0xA900)
        self.files[received.sop_instance_uid] = received.path.read_bytes()
        self.peers.add((received.calling_ae_title, received.address))
        return Receipt.STORED


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


CLIENT = QueryClient(Caller("NODE"))


@pytest.mark.pacs
def test_find_in_dcmtk(archive: DimsePeer, study) -> None:
    uid = str(study[0].StudyInstanceUID)
    found = CLIENT.find_studies(archive, since=date(2026, 3, 15), until=date(2026, 3, 15))
    assert [(s.study_instance_uid, s.date) for s in found] == [(uid, "20260315")]
    assert CLIENT.find_studies(archive, since=date(2026, 3, 16)) == ()


@pytest.mark.pacs
def test_get_from_dcmtk(archive: DimsePeer, study, keeper: Keeper, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    assert CLIENT.get(archive, study[0].StudyInstanceUID, keeper, folder) == Retrieval(2)
    assert keeper.files.keys() == {str(image.SOPInstanceUID) for image in study}
    assert keeper.peers == {("archive", "127.0.0.1")}
    assert list(folder.iterdir()) == []
    (tmp_path / "kept.dcm").write_bytes(keeper.files[str(study[0].SOPInstanceUID)])
    assert dcmread(tmp_path / "kept.dcm") == study[0]


@pytest.mark.pacs
def test_what_we_refuse_of_a_study_is_counted(archive: DimsePeer, study, keeper: Keeper, tmp_path: Path) -> None:
    keeper.refuse = str(study[1].SOPInstanceUID)
    ended = CLIENT.get(archive, study[0].StudyInstanceUID, keeper, tmp_path / "incoming")
    assert (ended.completed, ended.failed, ended.complete) == (1, 1, False)
    assert "other pixels under the same UID" in ended.reasons


@pytest.mark.pacs
def test_move_from_dcmtk(archive: DimsePeer, study, keeper: Keeper, tmp_path: Path, node_port: int) -> None:
    with StorageService("NODE", tmp_path / "incoming", keeper, port=node_port):
        assert CLIENT.move(archive, study[0].StudyInstanceUID, "NODE") == Retrieval(2)
    assert keeper.files.keys() == {str(image.SOPInstanceUID) for image in study}
    ended = CLIENT.move(archive, study[0].StudyInstanceUID, "NODE")  # nobody listens now
    assert ended.failed == 2


@pytest.fixture
def answering() -> Iterator[Callable[..., DimsePeer]]:
    """An archive that answers as it is told."""
    entities: list[AE] = []

    def start(sop_class: str, event: evt.InterventionEvent, answer: Callable) -> DimsePeer:
        ae = AE("ARCHIVE")
        ae.add_supported_context(sop_class)
        entities.append(ae)
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(event, answer)])
        return DimsePeer("archive", "ARCHIVE", "127.0.0.1", server.server_address[1])

    yield start
    for ae in entities:
        ae.shutdown()


def test_an_archive_that_fails_in_the_middle_of_a_query(answering) -> None:
    def answer(event: evt.Event):
        match = event.identifier
        match.StudyInstanceUID = "1.2.3"
        yield 0xFF00, match
        yield 0xA700, None

    with pytest.raises(StatusError, match="refused a query with status 0xA700: it is out of resources"):
        CLIENT.find_studies(answering(Find, evt.EVT_C_FIND, answer))


def test_nothing_of_the_patient_is_asked_for(answering) -> None:
    asked = []

    def answer(event: evt.Event):
        asked.append(event.identifier)
        yield 0x0000, None

    assert CLIENT.find_studies(answering(Find, evt.EVT_C_FIND, answer), {"AccessionNumber": "7"}) == ()
    assert {element.keyword: element.value for element in asked[0]} == {
        "SpecificCharacterSet": "ISO_IR 192",
        "StudyDate": "",
        "AccessionNumber": "7",
        "QueryRetrieveLevel": "STUDY",
        "ModalitiesInStudy": "",
        "StudyInstanceUID": "",
        "NumberOfStudyRelatedInstances": None,
    }


def test_a_move_to_a_title_that_the_archive_does_not_know(answering) -> None:
    def answer(_: evt.Event):
        yield None, None

    with pytest.raises(StatusError, match=r"study 1\.2\.3 with status 0xA801: it does not know"):
        CLIENT.move(answering(Move, evt.EVT_C_MOVE, answer), "1.2.3", "NODE")


def test_a_peer_that_is_no_archive(service: StorageService) -> None:
    with pytest.raises(ContextNotAcceptedError, match="accepts none of the SOP classes offered"):
        CLIENT.find_studies(DimsePeer("node", "NODE", "127.0.0.1", service.port))


@pytest.mark.parametrize(
    ("since", "until", "text"),
    [
        (None, None, ""),
        (date(2026, 1, 1), None, "20260101-"),
        (None, date(2026, 12, 31), "-20261231"),
        (date(2026, 1, 1), date(2026, 1, 2), "20260101-20260102"),
    ],
)
def test_ranges_of_dates(since: date | None, until: date | None, text: str) -> None:
    assert study_date_range(since, until) == text


def test_an_archive_that_ignores_the_modality_is_seen_through() -> None:
    where = {"ModalitiesInStudy": "MG"}
    assert matches(FoundStudy("1", modalities=("MG", "US")), where)
    assert not matches(FoundStudy("1", modalities=("CT",)), where)
    assert matches(FoundStudy("1"), where)
    assert matches(FoundStudy("1", modalities=("CT",)), {})
