"""Storage commitment both ways: the node promises to keep images, and has the PACS promise to keep results."""

from collections.abc import Callable
from pathlib import Path

from pydicom import FileDataset

from mammoscope.network import (
    Caller,
    CommitmentClient,
    CommitmentReports,
    CommitmentService,
    DimsePeer,
    Instance,
    Receipt,
    ReceivedObject,
    StorageService,
)
from mammoscope.node import Node
from mammoscope.node.db.repository import DeliveryStatus
from mammoscope.settings import NodeSettings


def test_images_are_committed_to_and_results_are_sent_when_they_are(
    tmp_path: Path,
    make_settings: Callable[..., NodeSettings],
    free_port: int,
    detector,
    images: list[FileDataset],
    send,
    wait_until,
) -> None:
    kept: set[str] = set()
    asked: list[str] = []
    reluctant = [True]  # the PACS forgets what it is asked about first
    node_peer = DimsePeer("node", "NODE", "127.0.0.1", free_port)

    def keep(received: ReceivedObject) -> Receipt:
        kept.add(received.sop_instance_uid)
        return Receipt.STORED

    def is_kept(_: str, sop_instance: str) -> bool:
        asked.append(sop_instance)
        if reluctant:
            reluctant.clear()
            kept.discard(sop_instance)
        return sop_instance in kept

    promising = CommitmentService(is_kept, {"NODE": node_peer}.get, Caller("PACS"))
    with StorageService("PACS", tmp_path / "pacs", keep, extensions=[promising]) as pacs:
        settings = make_settings(pacs.port, port=free_port)
        destination = settings.destinations[0].model_copy(update={"commitment": True})
        with Node(settings.model_copy(update={"destinations": (destination,)}), detector) as node:
            send(images, node)
            study = str(images[0].StudyInstanceUID)
            modality = CommitmentClient(Caller("MODALITY"), CommitmentReports())
            instances = [Instance(str(i.SOPClassUID), str(i.SOPInstanceUID)) for i in images]
            report = modality.ask(node_peer, [*instances, Instance(str(images[0].SOPClassUID), "1.2.3")])
            assert report.committed == {str(image.SOPInstanceUID) for image in images}
            assert dict(report.failed) == {"1.2.3": 0x0112}

            def delivery_ended() -> bool:
                record = node.records.study(study)
                return record is not None and bool(record.reports) and not record.reports[0].pending

            wait_until(delivery_ended)
            record = node.records.study(study)
    assert record is not None
    [delivery] = record.reports[0].deliveries
    assert (delivery.status, delivery.tries) == (DeliveryStatus.SENT, 2)
    made = {result.sop_instance_uid for result in record.reports[0].results}
    assert kept == made
    assert set(asked) == made
