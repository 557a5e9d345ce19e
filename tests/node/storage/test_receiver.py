import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import FileDataset
from pydicom.uid import RLELossless

from mammoscope.findings import ReadingStatus
from mammoscope.network import ObjectRefusedError, Receipt, ReceivedObject
from mammoscope.node.db.repository import ImageRecord, Records, Report
from mammoscope.node.events import Event, ObjectReceived, Origin
from mammoscope.node.storage import receiver
from mammoscope.node.storage.inbox import Inbox
from mammoscope.node.storage.receiver import Reception, differ, pixel_digest


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path) as records:
        yield records


@pytest.fixture
def inbox(tmp_path: Path, records: Records) -> Inbox:
    return Inbox(tmp_path / "inbox", records.knows)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def reception(inbox: Inbox, records: Records, events: list[Event]) -> Reception:
    return Reception(inbox, records, lambda _: Origin.PULLED, events.append, lambda: None)


@pytest.fixture
def arrived(tmp_path: Path) -> Callable[[FileDataset], ReceivedObject]:
    def arrived(image: FileDataset) -> ReceivedObject:
        file = tmp_path / f"tmp{uuid.uuid4()}.dcm"
        image.save_as(file, enforce_file_format=True)
        study, uid = str(image.StudyInstanceUID), str(image.SOPInstanceUID)
        return ReceivedObject(file, image.SOPClassUID, uid, study, "MG", "MODALITY", "10.0.0.7")

    return arrived


def test_a_stored_object_has_a_file_and_a_row(reception, inbox, records, arrived, images, events) -> None:
    assert reception.receive(arrived(images[0])) is Receipt.STORED
    study = str(images[0].StudyInstanceUID)
    record = records.study(study)
    assert record is not None
    assert [o.sop_instance_uid for o in record.objects] == [f.stem for f in inbox.images(study)]
    assert (record.origin, record.objects[0].peer) == (Origin.PULLED, "MODALITY")
    [event] = events
    assert isinstance(event, ObjectReceived)
    assert (event.outcome, event.address, event.origin) == ("stored", "10.0.0.7", Origin.PULLED)


def test_a_resend_is_known_also_with_other_words_about_the_patient(reception, arrived, images, records) -> None:
    reception.receive(arrived(images[0]))
    images[0].PatientName = "Corrected^Spelling"
    assert reception.receive(arrived(images[0])) is Receipt.KNOWN
    record = records.study(str(images[0].StudyInstanceUID))
    assert record is not None
    assert len(record.objects) == 1


def test_a_resend_in_another_transfer_syntax_is_known(reception, arrived, images) -> None:
    reception.receive(arrived(images[0]))
    images[0].compress(RLELossless, generate_instance_uid=False)
    assert reception.receive(arrived(images[0])) is Receipt.KNOWN


def test_other_pixels_under_a_known_uid_are_refused(reception, inbox, arrived, images, events) -> None:
    reception.receive(arrived(images[0]))
    study = str(images[0].StudyInstanceUID)
    first = inbox.images(study)[0].read_bytes()
    images[0].PixelData = bytes(len(images[0].PixelData))
    with pytest.raises(ObjectRefusedError, match="has other pixels") as refused:
        reception.receive(arrived(images[0]))
    assert refused.value.status == 0xC000
    assert refused.value.comment == "another image has this SOP Instance UID"
    assert inbox.images(study)[0].read_bytes() == first
    assert len(events) == 1


def test_other_pixels_are_refused_after_the_image_was_deleted_too(reception, inbox, arrived, images, records) -> None:
    reception.receive(arrived(images[0]))
    study, uid = str(images[0].StudyInstanceUID), str(images[0].SOPInstanceUID)
    image = ImageRecord(sop_instance_uid=uid, status=ReadingStatus.NOTHING_FOUND)
    digest = pixel_digest(inbox.images(study)[0])
    report = Report(number=1, made_at="2026-01-02T12:00:00Z", algorithm="", seconds=1, images=(image,), results=())
    records.add_report(study, report, digests={uid: digest})
    inbox.remove(study, lambda _: True)
    records.images_removed(study)
    assert reception.receive(arrived(images[0])) is Receipt.KNOWN
    assert inbox.images(study) == []
    images[0].PixelData = bytes(len(images[0].PixelData))
    with pytest.raises(ObjectRefusedError, match="has other pixels"):
        reception.receive(arrived(images[0]))


def test_a_study_takes_no_more_images_than_any_examination_has(
    reception, inbox, arrived, images, records, events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "MOST_IMAGES", 2)
    for image in images[:2]:
        assert reception.receive(arrived(image)) is Receipt.STORED
    with pytest.raises(ObjectRefusedError, match="has 2 images already") as refused:
        reception.receive(arrived(images[2]))
    assert refused.value.status == 0xC000
    assert reception.receive(arrived(images[1])) is Receipt.KNOWN  # a resend is none more
    study = str(images[0].StudyInstanceUID)
    assert len(inbox.images(study)) == len(records.study(study).objects) == 2
    assert len(events) == 3
    images[2].StudyInstanceUID = f"{study}.2"
    assert reception.receive(arrived(images[2])) is Receipt.STORED


def test_a_file_without_a_row_gets_one_when_it_is_sent_again(reception, inbox, arrived, images, records) -> None:
    inbox.add(arrived(images[0]))  # and then the process ended
    assert records.study(str(images[0].StudyInstanceUID)) is None
    assert reception.receive(arrived(images[0])) is Receipt.KNOWN
    assert records.knows(str(images[0].StudyInstanceUID), str(images[0].SOPInstanceUID))


def test_an_object_that_cannot_be_recorded_is_not_acknowledged(reception, arrived, images, records) -> None:
    with records._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE objects RENAME TO away")
    with pytest.raises(OSError, match="the database does not take it"):
        reception.receive(arrived(images[0]))
    with records._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO objects")
    assert reception.receive(arrived(images[0])) is Receipt.STORED
    assert records.knows(str(images[0].StudyInstanceUID), str(images[0].SOPInstanceUID))


def test_digests_tell_only_what_they_can() -> None:
    assert differ("1.2 aa", "1.2 bb")
    assert not differ("1.2 aa", "1.2 aa")
    assert not differ("1.2 aa", "1.2.4 bb")
