import json
import threading
import uuid
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
)

from mammoscope.network import Receipt, ReceivedObject
from mammoscope.node.storage.inbox import Inbox

MG = DigitalMammographyXRayImageStorageForPresentation


def arrived(
    folder: Path, uid: str = "1.2.3", content: bytes = b"object", sop_class: UID = MG, modality: str = "MG"
) -> ReceivedObject:
    file = folder / f"tmp{uuid.uuid4()}.dcm"
    file.write_bytes(content)
    return ReceivedObject(file, sop_class, uid, "1.2", modality, "MODALITY")


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", lambda study, uid: (study, uid) == ("1.2", "1.2.99"))


def test_an_object_is_kept_under_its_uids(tmp_path: Path, inbox: Inbox) -> None:
    received = arrived(tmp_path)
    assert inbox.add(received) is Receipt.STORED
    received.path.unlink()  # as the service does
    [file] = inbox.images("1.2")
    assert file == tmp_path / "inbox" / "1.2" / "1.2.3.dcm"
    assert file.read_bytes() == b"object"
    assert inbox.studies() == ["1.2"]


def test_a_resend_changes_nothing(tmp_path: Path, inbox: Inbox) -> None:
    inbox.add(arrived(tmp_path))
    assert inbox.add(arrived(tmp_path, content=b"other")) is Receipt.KNOWN
    assert inbox.images("1.2")[0].read_bytes() == b"object"


def test_what_was_read_before_is_known(tmp_path: Path, inbox: Inbox) -> None:
    assert inbox.add(arrived(tmp_path, "1.2.99")) is Receipt.KNOWN
    assert inbox.studies() == []


@pytest.mark.parametrize(
    ("sop_class", "modality", "receipt"),
    [
        (DigitalMammographyXRayImageStorageForProcessing, "MG", Receipt.STORED),
        (SecondaryCaptureImageStorage, "MG", Receipt.STORED),
        (SecondaryCaptureImageStorage, "OT", Receipt.IGNORED),
        (SecondaryCaptureImageStorage, "", Receipt.IGNORED),
        (MammographyCADSRStorage, "SR", Receipt.IGNORED),
    ],
)
def test_what_may_be_a_mammogram(tmp_path: Path, inbox: Inbox, sop_class: UID, modality: str, receipt: Receipt) -> None:
    assert inbox.add(arrived(tmp_path, sop_class=sop_class, modality=modality)) is receipt
    assert len(inbox.studies()) == (receipt is Receipt.STORED)


@pytest.mark.parametrize(
    ("modality", "attributes", "receipt"),
    [
        ("RG", {"BodyPartExamined": "BREAST"}, Receipt.STORED),
        ("CR", {"PositionerType": "MAMMOGRAPHIC"}, Receipt.STORED),
        ("OT", {"OrganExposed": "BREAST"}, Receipt.STORED),
        ("OT", {"BodyPartExamined": "CHEST"}, Receipt.IGNORED),
        ("US", {"BodyPartExamined": "BREAST"}, Receipt.IGNORED),
    ],
)
def test_digitised_film_is_known_by_its_header(
    tmp_path: Path, inbox: Inbox, modality: str, attributes: dict[str, str], receipt: Receipt
) -> None:
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = SecondaryCaptureImageStorage, "1.2.3", modality
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = tmp_path / "film.dcm"
    header.save_as(file, enforce_file_format=True)
    received = arrived(tmp_path, content=file.read_bytes(), sop_class=SecondaryCaptureImageStorage, modality=modality)
    assert inbox.add(received) is receipt


def test_the_same_object_from_many_senders_is_stored_once(tmp_path: Path, inbox: Inbox) -> None:
    receipts: list[Receipt] = []
    threads = [threading.Thread(target=lambda: receipts.append(inbox.add(arrived(tmp_path)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receipts) == [Receipt.KNOWN] * 7 + [Receipt.STORED]


def test_removing_asks_about_what_lies_there(tmp_path: Path, inbox: Inbox) -> None:
    inbox.add(arrived(tmp_path))
    assert not inbox.remove("1.2", only_if=lambda files: not files)
    assert inbox.studies() == ["1.2"]
    assert inbox.remove("1.2", only_if=lambda files: [f.stem for f in files] == ["1.2.3"])
    assert inbox.studies() == []


def test_moving_a_study_away(tmp_path: Path, inbox: Inbox) -> None:
    inbox.add(arrived(tmp_path))
    target = tmp_path / "failed" / "1.2" / "images"
    inbox.move(inbox.images("1.2"), target, {"reason": "why"})
    assert inbox.studies() == []
    assert (target / "1.2.3.dcm").read_bytes() == b"object"
    assert json.loads((target / "reason.json").read_text()) == {"reason": "why"}


def test_images_that_were_moved_away_come_back_or_are_cleared(tmp_path: Path, inbox: Inbox) -> None:
    for uid in ("1.2.3", "1.2.4"):
        inbox.add(arrived(tmp_path, uid))
    failed = tmp_path / "failed" / "1.2"
    inbox.move(inbox.images("1.2"), failed / "images", {"reason": "why"})
    inbox.bring_back("1.2", ["1.2.3", "1.2.9"], failed)
    assert [file.name for file in inbox.images("1.2")] == ["1.2.3.dcm"]
    inbox.clear_away(["1.2.3"], failed)
    assert [file.name for file in failed.glob("*/*.dcm")] == ["1.2.4.dcm"]
    inbox.clear_away(["1.2.4"], failed)
    assert not failed.exists()
    inbox.clear_away(["1.2.4"], failed)


def test_an_image_that_arrived_since_is_not_moved_away_with_the_others(tmp_path: Path, inbox: Inbox) -> None:
    inbox.add(arrived(tmp_path))
    listed = inbox.images("1.2")
    inbox.add(arrived(tmp_path, "1.2.4"))
    target = tmp_path / "failed" / "1.2" / "images"
    inbox.move(listed, target, {"reason": "why"})
    assert [file.name for file in inbox.images("1.2")] == ["1.2.4.dcm"]
    assert sorted(file.name for file in target.iterdir()) == ["1.2.3.dcm", "reason.json"]


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path, inbox: Inbox) -> None:
    (tmp_path / "inbox" / "1.2").write_text("a file where the study's folder should be")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        inbox.add(arrived(tmp_path))
