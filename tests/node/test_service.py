"""A node as it is left running: phantoms, pages, audit trail and metrics around patients' studies."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import FileDataset

from mammoscope.network import AssociationRejectedError, Destination, ServiceError, StorageClient
from mammoscope.node.audit.trail import AuditTrail
from mammoscope.node.monitoring.phantom_check import PHANTOM_ROOT, phantom_images
from mammoscope.node.service import OperatedNode
from mammoscope.settings import NodeSettings


def small_images(study: str) -> list[FileDataset]:
    return phantom_images(study, rows=256, columns=192)


@pytest.fixture
def operated(make_settings: Callable[..., NodeSettings], detector, pacs) -> Callable[..., OperatedNode]:
    def make(**sections: object) -> OperatedNode:
        made = make_settings(pacs.port, allowed_callers=("MODALITY",), allowed_addresses=("127.0.0.1",))
        values = {**made.model_dump(), "web": {"port": 0}, "health": {"deadline_seconds": 300.0}, **sections}
        return OperatedNode(NodeSettings(**values), detector, images=small_images)

    return make


def get(node: OperatedNode, path: str) -> tuple[int, str]:
    assert node.web is not None
    try:
        with urllib.request.urlopen(node.web.url + path, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def audit_lines(storage: Path) -> list[dict]:
    return [json.loads(line) for file in (storage / "audit").glob("*.jsonl") for line in file.read_text().splitlines()]


def test_phantoms_go_round_and_patients_are_served(operated, images, send, pacs, tmp_path: Path, wait_until):
    storage = tmp_path / "storage"
    with operated() as node:
        wait_until(lambda: node.rounds.last is not None, 300)
        last = node.rounds.last
        assert last.came_round, last.reason
        assert last.findings == 4  # one blob an image
        assert pacs.received == []  # a phantom's results are for no one else
        wait_until(lambda: node.node.records.study(last.study) is None)
        assert not list((storage / "inbox").glob(f"{PHANTOM_ROOT}*"))
        assert not list((storage / "outbox").glob(f"{PHANTOM_ROOT}*"))

        send(images, node.node)
        wait_until(lambda: len(pacs.received) > 0, 300)
        study = str(images[0].StudyInstanceUID)
        wait_until(lambda: node.node.records.study(study).state == "done")
        stranger = Destination("node", "NODE", "127.0.0.1", node.node.port)
        with pytest.raises(AssociationRejectedError):
            StorageClient("EVE").echo(stranger)

        status, ready = get(node, "/readyz")
        assert (status, json.loads(ready)["parts"]) == (
            200,
            dict.fromkeys(
                ("storage", "disk", "database", "audit trail", "reading", "work", "waiting", "phantom"), "ok"
            ),
        )
        assert get(node, "/healthz") == (200, "alive\n")
        page = get(node, "/metrics")[1].splitlines()
        for line in (
            'mammoscope_objects_received_total{origin="sent",outcome="stored"} 4.0',
            'mammoscope_reports_made_total{origin="sent"} 1.0',
            'mammoscope_reports_sent_total{destination="pacs"} 1.0',
            "mammoscope_associations_refused_total 1.0",
            "mammoscope_phantom_came_round 1.0",
            'mammoscope_studies{state="done"} 1.0',
            "mammoscope_workers_alive 1.0",
        ):
            assert line in page
        assert get(node, "/dicom-web/studies")[0] == 404  # no token, no STOW-RS

    events = [line["event"] for line in audit_lines(storage)]
    assert events[0] == "NodeStarted"
    assert events[-1] == "NodeStopped"
    assert events.count("ObjectReceived") == 4
    assert events.count("AssociationRefused") == 1
    assert events.count("StudyRead") == events.count("ReportSent") == 1
    assert PHANTOM_ROOT not in json.dumps(audit_lines(storage))
    assert AuditTrail(storage / "audit").verify().problems == ()
    assert not any(str(i.PatientName) in json.dumps(audit_lines(storage)) for i in images)


def test_who_has_a_token_may_store_by_the_web(operated, images):
    image = images[0]
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + Path(image.filename).read_bytes() + b"\r\n--b--\r\n"
    with operated(web={"port": 0, "tokens": ["secret"]}, health=None) as node:
        assert node.rounds is None

        def store(token: str) -> int:
            request = urllib.request.Request(
                f"{node.web.url}/dicom-web/studies",
                body,
                {
                    "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
                    "Authorization": f"Bearer {token}",
                    "Accept": "application/dicom+json",
                },
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        assert store("wrong") == 401
        assert store("secret") == 200
        assert node.node.records.knows(str(image.StudyInstanceUID), str(image.SOPInstanceUID))
        assert "phantom" not in json.loads(get(node, "/readyz")[1])["parts"]


def test_in_shadow_mode_a_phantom_goes_round_all_the_same(operated, make_settings, pacs, wait_until):
    node = make_settings(pacs.port, shadow=True).model_dump()["node"]
    with operated(node=node, web=None) as operated_node:
        assert operated_node.rounds.wrong() is None  # on its way
        wait_until(lambda: operated_node.rounds.last is not None, 300)
        assert operated_node.rounds.last.came_round, operated_node.rounds.last.reason
    assert pacs.received == []


def test_a_node_whose_pages_cannot_be_served_does_not_start(operated, free_port: int):
    with socket.create_server(("127.0.0.1", free_port)):
        node = operated(web={"port": free_port})
        with pytest.raises(ServiceError, match=f"cannot listen on 127.0.0.1 port {free_port} for the web"):
            node.start()
    with operated(health=None):  # and has let go of its storage folder
        pass
