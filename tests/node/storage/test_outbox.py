import errno
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread

from mammoscope.node.storage.outbox import Outbox


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


def test_the_outbox_keeps_objects_in_order(tmp_path: Path, outbox: Outbox, images: list[FileDataset]) -> None:
    stored = outbox.put("1.2", 1, images)
    assert [dcmread(f).SOPInstanceUID for f in stored.files] == [i.SOPInstanceUID for i in images]
    assert list(Outbox(tmp_path / "outbox").stored_reports()) == [stored]
    assert stored.file_of(str(images[1].SOPInstanceUID)) == stored.files[1]
    assert stored.file_of("1.2.3") is None
    outbox.discard("1.2", 1)
    assert list((tmp_path / "outbox").iterdir()) == []
    outbox.discard("1.2", 1)
    assert outbox.stored_report("1.2", 1).files == ()


def test_a_report_made_again_replaces_the_first(outbox: Outbox, images: list[FileDataset]) -> None:
    outbox.put("1.2", 1, images)
    assert len(outbox.put("1.2", 1, images[:1]).files) == 1


def test_discarding_one_report_leaves_the_other(outbox: Outbox, images: list[FileDataset]) -> None:
    outbox.put("1.2", 1, images)
    second = outbox.put("1.2", 2, images)
    outbox.discard("1.2", 1)
    assert list(outbox.stored_reports()) == [second]


def test_what_was_half_written_is_swept_by_its_writer_alone(
    tmp_path: Path, outbox: Outbox, images: list[FileDataset]
) -> None:
    whole = outbox.put("1.2", 1, images[:1])
    half, others = (tmp_path / "outbox" / "1.2" / f".2.{worker}.part" for worker in ("node", "helper"))
    for folder in (half, others):
        folder.mkdir()
        (folder / "001.dcm").write_bytes(b"half")
    assert list(Outbox(tmp_path / "outbox").stored_reports()) == [whole]
    assert not half.exists()
    assert others.exists()


def test_a_report_that_a_full_disk_stopped_can_be_written_later(
    tmp_path: Path, outbox: Outbox, images: list[FileDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("mammoscope.node.storage.outbox.sync", full)
        with pytest.raises(OSError, match="No space left"):
            outbox.put("1.2", 1, images)
    assert (tmp_path / "outbox" / "1.2" / ".1.node.part").exists()
    assert len(outbox.put("1.2", 1, images[:2]).files) == 2
