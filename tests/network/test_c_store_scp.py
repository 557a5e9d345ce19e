import os
import socket
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.uid import (
    UID,
    BreastProjectionXRayImageStorageForPresentation,
    BreastTomosynthesisImageStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RawDataStorage,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import PrintJob  # type: ignore[attr-defined]

from mammoscope.network import (
    REPORTED_SOP_CLASSES,
    AssociationRejectedError,
    ContextNotAcceptedError,
    Destination,
    ObjectRefusal,
    ObjectRefusedError,
    Receipt,
    ReceivedObject,
    ServiceError,
    StorageClient,
    StorageService,
)

MakeObject = Callable[..., FileDataset]
CLIENT = StorageClient("TESTER", timeout_seconds=5)


def associate(destination: Destination, sop_class: str) -> Association:
    ae = AE("TESTER")
    ae.add_requested_context(sop_class, ImplicitVRLittleEndian)
    association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    assert association.is_established
    return association


def store_raw(destination: Destination, sop_class: str, sop_instance: str, data: bytes) -> int:
    """C-STORE with a request and a data set that need not agree, or be a data set at all."""
    association = associate(destination, sop_class)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop_instance
    request.DataSet = BytesIO(data)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return int(response.Status)


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    Dataset(dataset).save_as(buffer, implicit_vr=True, little_endian=True)
    return buffer.getvalue()


def test_an_echo_is_answered(destination: Destination) -> None:
    CLIENT.echo(destination)


def test_an_object_arrives_as_it_was_sent(destination: Destination, receiver, make_object: MakeObject) -> None:
    sent = make_object()
    [sending] = CLIENT.send([sent], destination)
    assert (sending.sop_instance_uid, sending.error) == (sent.SOPInstanceUID, None)
    [received], [file] = receiver.received, receiver.files
    assert received.sop_instance_uid == sent.SOPInstanceUID
    assert received.study_instance_uid == sent.StudyInstanceUID
    assert (received.modality, received.calling_ae_title) == ("MG", "TESTER")
    kept = dcmread(BytesIO(file))
    assert kept == sent
    assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID


def test_a_compressed_object_stays_compressed(destination: Destination, receiver, make_object: MakeObject) -> None:
    sent = make_object()
    sent.compress(RLELossless, generate_instance_uid=False)
    [sending] = CLIENT.send([sent], destination)
    assert sending.error is None
    kept = dcmread(BytesIO(receiver.files[0]))
    assert kept.file_meta.TransferSyntaxUID == RLELossless
    assert (kept.pixel_array == sent.pixel_array).all()


def test_nothing_stays_behind_in_the_incoming_folder(
    tmp_path: Path, destination: Destination, make_object: MakeObject
) -> None:
    CLIENT.send([make_object(), make_object()], destination)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_what_is_no_storage_is_not_taken(destination: Destination, make_object: MakeObject) -> None:
    [refused] = CLIENT.send([make_object(sop_class=PrintJob)], destination)
    assert isinstance(refused.error, ContextNotAcceptedError)


@pytest.mark.parametrize("sop_class", REPORTED_SOP_CLASSES)
def test_tomosynthesis_is_taken(
    destination: Destination, receiver, refused: list[ObjectRefusal], make_object: MakeObject, sop_class: UID
) -> None:
    """A failure status would end the job of a sender before the mammograms behind it."""
    slices = make_object(sop_class=sop_class)
    [sending] = CLIENT.send([slices], destination)
    assert sending.error is None
    assert [received.sop_instance_uid for received in receiver.received] == [slices.SOPInstanceUID]
    assert refused == []


@pytest.mark.parametrize(
    "sop_class",
    [
        BreastProjectionXRayImageStorageForPresentation,
        CTImageStorage,
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        EncapsulatedPDFStorage,
        GrayscaleSoftcopyPresentationStateStorage,
        RawDataStorage,
        SegmentationStorage,
    ],
)
def test_a_whole_study_can_be_routed(destination: Destination, make_object: MakeObject, sop_class: UID) -> None:
    [sending] = CLIENT.send([make_object(sop_class=sop_class)], destination)
    assert sending.error is None


def test_compressed_tomosynthesis_is_taken(destination: Destination) -> None:
    ae = AE("TESTER")
    ae.add_requested_context(BreastTomosynthesisImageStorage, JPEG2000Lossless)
    association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    accepted = [context.transfer_syntax for context in association.accepted_contexts]
    association.release()
    assert accepted == [[JPEG2000Lossless]]


def test_a_uid_that_would_leave_the_folder_is_refused(
    destination: Destination, receiver, make_object: MakeObject
) -> None:
    dataset = make_object()
    for keyword in ("SOPInstanceUID", "StudyInstanceUID"):
        bad = Dataset(dataset)
        setattr(bad, keyword, "../../1.2.3")
        assert store_raw(destination, dataset.SOPClassUID, bad.SOPInstanceUID, encoded(bad)) == 0xC000
    assert receiver.received == []


def test_a_data_set_other_than_announced_is_refused(
    destination: Destination, receiver, make_object: MakeObject
) -> None:
    dataset = make_object()
    assert store_raw(destination, dataset.SOPClassUID, generate_uid(), encoded(dataset)) == 0xA900
    other_class = make_object(sop_class=GrayscaleSoftcopyPresentationStateStorage)
    assert store_raw(destination, dataset.SOPClassUID, other_class.SOPInstanceUID, encoded(other_class)) == 0xA900
    assert receiver.received == []


@pytest.mark.parametrize("data", [b"\x08\x00", b"\xff" * 500, b"no data set at all " * 20])
def test_bytes_that_are_no_data_set_are_refused(
    destination: Destination, receiver, make_object: MakeObject, data: bytes
) -> None:
    dataset = make_object()
    assert store_raw(destination, dataset.SOPClassUID, dataset.SOPInstanceUID, data) == 0xC000
    assert receiver.received == []
    CLIENT.echo(destination)


def test_a_header_cut_before_the_study_is_refused(destination: Destination, receiver, make_object: MakeObject) -> None:
    dataset = make_object()
    assert store_raw(destination, dataset.SOPClassUID, dataset.SOPInstanceUID, encoded(dataset)[:150]) == 0xC000
    assert receiver.received == []


def test_a_wrong_called_title_is_rejected(service: StorageService) -> None:
    with pytest.raises(AssociationRejectedError, match="called AE title not recognised"):
        CLIENT.echo(Destination("node", "OTHER", "127.0.0.1", service.port))


def test_only_allowed_callers_associate(tmp_path: Path, receiver) -> None:
    with StorageService("NODE", tmp_path, receiver, allowed_callers=["MODALITY"]) as service:
        destination = Destination("node", "NODE", "127.0.0.1", service.port)
        StorageClient("MODALITY").echo(destination)
        with pytest.raises(AssociationRejectedError, match="calling AE title not recognised"):
            CLIENT.echo(destination)


@pytest.mark.parametrize(
    "missing",
    [
        ("SOPInstanceUID", "SOP Instance UID"),
        ("StudyInstanceUID", "Study Instance UID"),
        ("SOPClassUID", "SOP Class UID"),
    ],
)
def test_an_object_without_an_identifier_is_refused(
    destination: Destination, refused: list[ObjectRefusal], make_object: MakeObject, missing: tuple[str, str]
) -> None:
    dataset = make_object()
    uid, keyword = dataset.SOPInstanceUID, missing[0]
    delattr(dataset, keyword)
    assert store_raw(destination, DigitalMammographyXRayImageStorageForPresentation, uid, encoded(dataset)) == 0xC000
    assert [r.reason for r in refused] == [f"an object without a valid {missing[1]} was refused"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError(28, "No space left on device"), 0xA700), (ObjectRefusedError("not this one", 0xA900), 0xA900)],
)
def test_the_receivers_trouble_is_told_to_the_peer(
    destination: Destination, receiver, make_object: MakeObject, error: Exception, status: int
) -> None:
    receiver.error = error
    [sending] = CLIENT.send([make_object()], destination)
    assert sending.error.status == status


def test_partial_objects_of_a_killed_process_are_swept_at_start(tmp_path: Path, receiver) -> None:
    left_over = tmp_path / "tmpabc123.dcm"
    left_over.write_bytes(b"half an object")
    with StorageService("NODE", tmp_path, receiver):
        assert not left_over.exists()


def test_a_part_being_written_is_not_swept(tmp_path: Path, service: StorageService) -> None:
    young, old = tmp_path / "incoming" / "tmpyoung.dcm", tmp_path / "incoming" / "tmpold.dcm"
    young.touch()
    old.touch()
    os.utime(old, (time.time() - 3600,) * 2)
    assert service.sweep() == 1
    assert young.exists()


def test_a_taken_port_is_said(tmp_path: Path, service: StorageService, receiver) -> None:
    with pytest.raises(ServiceError, match=f"cannot listen on 127.0.0.1 port {service.port}: Address already in use"):
        StorageService("NODE", tmp_path / "second", receiver, port=service.port).start()


def test_after_stop_nobody_listens(tmp_path: Path, receiver) -> None:
    service = StorageService("NODE", tmp_path, receiver)
    service.start()
    service.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port), timeout=1)


def test_stop_lets_a_running_association_end(tmp_path: Path, receiver, make_object: MakeObject) -> None:
    service = StorageService("NODE", tmp_path, receiver)
    service.start()
    dataset = make_object()
    association = associate(Destination("node", "NODE", "127.0.0.1", service.port), dataset.SOPClassUID)
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    assert association.send_c_store(dataset).Status == 0x0000
    association.release()
    stopping.join(10)
    assert not stopping.is_alive()
    assert len(receiver.received) == 1


def test_several_associations_at_once(destination: Destination, receiver, make_object: MakeObject) -> None:
    objects = [make_object() for _ in range(12)]
    threads = [
        threading.Thread(target=CLIENT.send, args=(objects[i : i + 3], destination)) for i in range(0, len(objects), 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {r.sop_instance_uid for r in receiver.received} == {o.SOPInstanceUID for o in objects}


def test_two_services_in_one_process_keep_apart(tmp_path: Path, make_object: MakeObject) -> None:
    folders: list[Path] = []

    def receive(received: ReceivedObject) -> Receipt:
        folders.append(received.path.parent)
        return Receipt.STORED

    with (
        StorageService("ONE", tmp_path / "one", receive) as one,
        StorageService("TWO", tmp_path / "two", receive) as two,
    ):
        for title, service in (("ONE", one), ("TWO", two), ("ONE", one)):
            CLIENT.send([make_object()], Destination("node", title, "127.0.0.1", service.port))
    assert folders == [tmp_path / "one", tmp_path / "two", tmp_path / "one"]


def test_receipts_are_words() -> None:
    assert [str(r) for r in Receipt] == ["stored", "known", "ignored"]
