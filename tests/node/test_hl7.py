"""A node that tells a RIS in words what it tells a PACS in objects."""

from pathlib import Path

from mammoscope.node import Node
from mammoscope.node.db.repository import DeliveryStatus, Records
from mammoscope.settings import NodeSettings


def delivery_to(storage: Path, study: str, name: str):
    with Records.open(storage) as records:
        record = records.study(study)
    reports = record.reports if record is not None else ()
    return next((d for report in reports for d in report.deliveries if d.destination == name), None)


def test_a_ris_is_told_once_and_a_refusal_is_parked(tmp_path, hl7_listener, pacs, detector, images, send, wait_until):
    storage, study = tmp_path / "storage", str(images[0].StudyInstanceUID)
    with (
        hl7_listener(lambda message: message.create_ack("AA")) as (port, got),
        hl7_listener(lambda message: message.create_ack("AE")) as (other, refused),
    ):
        ris = {"transport": "hl7", "host": "127.0.0.1"}
        settings = NodeSettings(
            node={"ae_title": "NODE", "port": 0, "storage": storage, "quiet_seconds": 2},
            destinations=[
                {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port, "viewer": "workstation"},
                {**ris, "name": "ris", "port": port, "application": "RIS", "facility": "HOSPITAL"},
                {**ris, "name": "strict", "port": other},
            ],
        )

        def ended(name: str) -> bool:
            delivery = delivery_to(storage, study, name)
            return delivery is not None and delivery.status is not DeliveryStatus.PENDING

        with Node(settings, detector) as node:
            send(images, node)
            wait_until(lambda: all(map(ended, ("pacs", "ris", "strict"))))
    [message] = got
    assert [str(message.segment("MSH")[n]) for n in (3, 5, 6)] == ["NODE", "RIS", "HOSPITAL"]
    assert str(message["PID.F5"]).split("^")[0] == str(images[0].PatientName.family_name)
    assert any(study in str(segment) for segment in message.segments("OBX"))
    assert any("research use only" in str(segment) for segment in message.segments("OBX"))
    assert delivery_to(storage, study, "ris").status is DeliveryStatus.SENT
    parked = delivery_to(storage, study, "strict")
    assert parked.status is DeliveryStatus.PARKED
    assert "refused the message (AE); its own log says why" in parked.errors[0]
    assert len(refused) == 1
    assert {d.Modality for d in pacs.received} == {"SR", "PR", "OT"}
    assert not any(d.SOPClassUID.name.startswith("Comprehensive") for d in pacs.received)  # not asked for there
