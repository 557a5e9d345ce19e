from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel as Model  # type: ignore[attr-defined]
from pynetdicom.sop_class import StorageCommitmentPushModelInstance as ModelInstance  # type: ignore[attr-defined]

from mammoscope.network import (
    Caller,
    CommitmentClient,
    CommitmentReports,
    CommitmentService,
    ConnectionLostError,
    DimsePeer,
    Instance,
    StatusError,
    StorageService,
)

MG = "1.2.840.10008.5.1.4.1.1.1.2"
ASKED = [Instance(MG, "1.2.3"), Instance(MG, "1.2.4")]


def keeps(_: str, instance: str) -> bool:
    return instance == "1.2.3"


@pytest.fixture
def serve(tmp_path: Path, receiver) -> Iterator[Callable[..., DimsePeer]]:
    """Nodes that listen, each with a service of its own."""
    started: list[StorageService] = []

    def start(service: CommitmentService, title: str = "NODE") -> DimsePeer:
        started.append(StorageService(title, tmp_path / title, receiver, extensions=[service]))
        started[-1].start()
        return DimsePeer(title.lower(), title, "127.0.0.1", started[-1].port)

    yield start
    for service in started:
        service.stop()


def test_a_caller_that_we_have_no_address_of_is_told_on_its_own_association(serve) -> None:
    node = serve(CommitmentService(keeps, lambda _: None, Caller("NODE")))
    report = CommitmentClient(Caller("STRANGER"), CommitmentReports()).ask(node, ASKED)
    assert report.committed == {"1.2.3"}
    assert dict(report.failed) == {"1.2.4": 0x0112}


def test_an_object_that_we_hold_under_another_class_is_told_apart(serve) -> None:
    node = serve(CommitmentService(lambda kind, uid: (kind, uid) == (MG, "1.2.3"), lambda _: None, Caller("NODE"),
                                   is_held=lambda uid: uid == "1.2.3"))  # fmt: skip
    asked = [Instance("1.2.840.10008.5.1.4.1.1.7", "1.2.3"), *ASKED]
    report = CommitmentClient(Caller("STRANGER"), CommitmentReports()).ask(node, asked)
    assert dict(report.failed) == {"1.2.3": 0x0119, "1.2.4": 0x0112}


def test_a_caller_whose_address_we_know_is_called_back(serve) -> None:
    """Two nodes: ASKER asks NODE, which reports to ASKER's own port."""
    reports = CommitmentReports()
    peers: dict[str, DimsePeer] = {}
    node = serve(CommitmentService(keeps, peers.get, Caller("NODE")))
    peers["ASKER"] = serve(CommitmentService(lambda *_: False, peers.get, Caller("ASKER"), reports), "ASKER")
    report = CommitmentClient(Caller("ASKER"), reports).ask(node, ASKED[:1])
    assert (report.committed, dict(report.failed)) == ({"1.2.3"}, {})


def test_a_caller_that_cannot_be_reached_at_first_is_tried_again(serve, free_ports, until) -> None:
    [port] = free_ports(1)
    peers = {"ASKER": DimsePeer("asker", "ASKER", "127.0.0.1", port)}
    node = serve(CommitmentService(keeps, peers.get, Caller("NODE"), waits_seconds=(0.0, *(0.2,) * 200)))
    ask(node, "ASKER", request("1.2.3.4"))
    arrived: list[Dataset] = []

    def on_report(event: evt.Event) -> tuple[int, None]:
        arrived.append(event.event_information)
        return 0x0000, None

    ae = AE("ASKER")
    ae.add_supported_context(Model, scu_role=True, scp_role=True)
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
    try:
        until(lambda: arrived)
    finally:
        ae.shutdown()
    assert arrived[0].TransactionUID == "1.2.3.4"


def request(transaction: str, *instances: str) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = []
    for uid in instances or ("1.2.3",):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = MG, uid
        asked.ReferencedSOPSequence.append(item)
    return asked


def ask(node: DimsePeer, title: str, asked: Dataset, action: int = 1) -> int:
    ae = AE(title)
    ae.add_requested_context(Model)
    association = ae.associate(node.host, node.port, ae_title=node.ae_title)
    status, _ = association.send_n_action(asked, action, Model, ModelInstance)
    association.release()
    return int(status.Status)


def test_a_request_that_asks_nothing_is_refused(serve) -> None:
    node = serve(CommitmentService(keeps, lambda _: None, Caller("NODE")))
    nothing = Dataset()
    nothing.TransactionUID = "1.2.3.4"
    assert ask(node, "ASKER", nothing) == 0x0115
    assert ask(node, "ASKER", request("1.2.3.4"), action=2) == 0x0123


def peer_answering(answer: Callable[[evt.Event], tuple[int, None]]) -> tuple[AE, DimsePeer]:
    ae = AE("PACS")
    ae.add_supported_context(Model)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, answer)])
    assert server is not None
    return ae, DimsePeer("pacs", "PACS", "127.0.0.1", server.server_address[1])


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (0x0000, ConnectionLostError, "took the request for storage commitment but sent no report in 1 s"),
        (0x0110, StatusError, "refused the request for storage commitment with status 0x0110"),
    ],
)
def test_a_peer_that_never_reports_or_refuses(status: int, error: type[Exception], words: str) -> None:
    ae, pacs = peer_answering(lambda _: (status, None))
    try:
        with pytest.raises(error, match=words):
            CommitmentClient(Caller("NODE"), CommitmentReports()).ask(pacs, ASKED, wait_seconds=1.0)
    finally:
        ae.shutdown()
