"""What the inbox and the outbox say is kept survives a power cut: whatever was not synced is dropped, then they start.

As POSIX promises it and no more: a file's content as of its own last fsync, and a folder's names as of the folder's.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation

from mammoscope.network import Receipt, ReceivedObject
from mammoscope.node.storage.inbox import Inbox
from mammoscope.node.storage.outbox import Outbox


class Disk:
    """What of the files below a folder has reached the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.contents: dict[int, bytes] = {}
        self.names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._sync_folder(root)

    def synced(self, descriptor: int) -> None:
        path, facts = Path(f"/proc/self/fd/{descriptor}").readlink(), os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            self._sync_folder(path)
        else:
            self.contents[facts.st_ino] = path.read_bytes()

    def after_power_cut(self, target: Path) -> Path:
        """The files as they lie there after a power cut now."""
        self._restore(self.root.stat().st_ino, target)
        return target

    def _sync_folder(self, folder: Path) -> None:
        there = {path.name: path.lstat() for path in folder.iterdir()}
        self.names[folder.stat().st_ino] = {
            name: (facts.st_ino, stat.S_ISDIR(facts.st_mode)) for name, facts in there.items()
        }

    def _restore(self, folder: int, target: Path) -> None:
        target.mkdir()
        for name, (inode, is_folder) in self.names.get(folder, {}).items():
            if is_folder:
                self._restore(inode, target / name)
            else:
                (target / name).write_bytes(self.contents.get(inode, b""))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    disk, fsync = Disk(root), os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        disk.synced(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return disk


def arrived(disk: Disk, uid: str, content: bytes) -> ReceivedObject:
    file = disk.root / f"{uid}.arriving"
    file.write_bytes(content)
    return ReceivedObject(file, DigitalMammographyXRayImageStorageForPresentation, uid, "1.2", "MG", "MODALITY")


def test_an_acknowledged_object_survives(disk: Disk, tmp_path: Path) -> None:
    inbox = Inbox(disk.root / "storage" / "inbox", lambda *_: False)
    kept = {}
    for number in (1, 2, 3):
        uid, content = f"1.2.{number}", bytes([number]) * 5000
        received = arrived(disk, uid, content)
        assert inbox.add(received) is Receipt.STORED
        received.path.unlink()  # as the service does
        kept[uid] = content
        after = Inbox(disk.after_power_cut(tmp_path / f"after{number}") / "storage" / "inbox", lambda *_: False)
        assert {path.stem: path.read_bytes() for path in after.images("1.2")} == kept


def test_a_resend_that_is_called_known_survives_too(disk: Disk, tmp_path: Path) -> None:
    """Another association may have linked it and not have come to its syncs yet."""
    inbox = Inbox(disk.root / "storage" / "inbox", lambda *_: False)
    inbox.add(arrived(disk, "1.2.1", b"object"))
    other = inbox.image("1.2", "1.2.2")
    content = arrived(disk, "1.2.2", b"other")
    os.fsync(os.open(content.path, os.O_RDONLY))
    os.link(content.path, other)
    assert inbox.add(arrived(disk, "1.2.2", b"other")) is Receipt.KNOWN
    after = Inbox(disk.after_power_cut(tmp_path / "after") / "storage" / "inbox", lambda *_: False)
    assert [path.read_bytes() for path in after.images("1.2")] == [b"object", b"other"]


def test_a_report_that_was_put_survives(disk: Disk, tmp_path: Path, images: list[FileDataset]) -> None:
    outbox = Outbox(disk.root / "storage" / "outbox")
    outbox.put("1.2", 1, images)
    outbox.put("1.2", 2, images[:1])
    outbox.put("1.3", 1, images[:2])
    after = Outbox(disk.after_power_cut(tmp_path / "after") / "storage" / "outbox")
    found = {(stored.study, stored.number): [dcmread(f) for f in stored.files] for stored in after.stored_reports()}
    assert found == {("1.2", 1): images, ("1.2", 2): images[:1], ("1.3", 1): images[:2]}


def test_a_report_that_replaces_another_survives_whole(disk: Disk, tmp_path: Path, images: list[FileDataset]) -> None:
    outbox = Outbox(disk.root / "storage" / "outbox")
    outbox.put("1.2", 1, images)
    outbox.put("1.2", 1, images[:1])
    after = Outbox(disk.after_power_cut(tmp_path / "after") / "storage" / "outbox")
    assert [dcmread(file) for file in after.stored_report("1.2", 1).files] == images[:1]


def test_images_put_aside_and_brought_back_survive(disk: Disk, tmp_path: Path) -> None:
    """A power cut after each of the two loses no image, wherever it lies then."""
    storage = disk.root / "storage"
    inbox = Inbox(storage / "inbox", lambda *_: False)
    inbox.add(arrived(disk, "1.2.1", b"object"))
    aside = storage / "failed" / "1.2" / "images-1"
    inbox.move([inbox.image("1.2", "1.2.1")], aside, {"reason": "none"})
    after = disk.after_power_cut(tmp_path / "aside") / "storage"
    assert [file.read_bytes() for file in after.rglob("1.2.1.dcm")] == [b"object"]
    inbox.bring_back("1.2", ["1.2.1"], storage / "failed" / "1.2")
    after = disk.after_power_cut(tmp_path / "back") / "storage"
    assert (after / "inbox" / "1.2" / "1.2.1.dcm").read_bytes() == b"object"


def what_is_left(disk: Disk, target: Path) -> dict[str, bytes]:
    root = disk.after_power_cut(target)
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*.dcm")}


@pytest.mark.parametrize("kept_by", ["inbox", "outbox"])
def test_a_sync_that_is_left_out_is_noticed(
    disk: Disk, tmp_path: Path, images: list[FileDataset], monkeypatch: pytest.MonkeyPatch, kept_by: str
) -> None:
    """What these tests are worth: without any one of its syncs an acknowledged object or a report may be lost."""
    inbox = Inbox(disk.root / "storage" / "inbox", lambda *_: False)
    outbox = Outbox(disk.root / "storage" / "outbox")
    noted, calls = os.fsync, []

    def keep(number: int) -> None:
        if kept_by == "inbox":
            inbox.add(arrived(disk, f"1.2.{number}", b"object"))
        else:
            outbox.put(f"1.3.{number}", 1, images[:1])

    def leave_out(left_out: int | None) -> dict[str, bytes]:
        calls.clear()

        def fsync(descriptor: int) -> None:
            calls.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            if len(calls) - 1 != left_out:
                noted(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        number = 100 if left_out is None else left_out
        before = what_is_left(disk, tmp_path / f"before {number}")
        keep(number)
        after = what_is_left(disk, tmp_path / f"after {number}")
        monkeypatch.setattr(os, "fsync", noted)
        return {name: content for name, content in after.items() if name not in before}

    [whole] = leave_out(None).values()
    assert whole
    syncs = list(calls)
    unnoticed = [syncs[number] for number in range(len(syncs)) if list(leave_out(number).values()) == [whole]]
    assert unnoticed == []
