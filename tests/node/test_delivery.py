import errno
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread

from mammoscope.network import Destination, PeerUnreachableError, Sending, StatusError
from mammoscope.node.delivery import Courier, Delivery, Outbox, Parcel

PACS = Destination("pacs", "PACS", "127.0.0.1", 104)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class ScriptedClient:
    """Answers each call by the next line of a script: an exception, or one error (or ``None``) an object."""

    def __init__(self, *script: Exception | Sequence[Exception | None]) -> None:
        self.script = list(script)
        self.asked: list[list[str]] = []

    def send(self, objects: Sequence[Path], destination: Destination) -> tuple[Sending, ...]:
        assert destination == PACS
        self.asked.append([file.name for file in objects])
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return tuple(Sending(file.stem, error) for file, error in zip(objects, answer, strict=True))


def courier_with(client: ScriptedClient, retry_seconds: float = 1000) -> tuple[Courier, Clock, list[Delivery]]:
    clock, done = Clock(), []
    courier = Courier(PACS, client, done.append, retry_seconds=retry_seconds, first_wait_seconds=5, clock=clock)
    return courier, clock, done


PARCEL = Parcel("1.2", 1, (Path("a.dcm"), Path("b.dcm")))
DOWN = PeerUnreachableError("pacs cannot be reached")


def test_what_arrives_at_once_is_done() -> None:
    courier, _, done = courier_with(ScriptedClient([None, None]))
    courier.post(PARCEL)
    courier.try_next()
    assert done == [Delivery(PARCEL, PACS, tries=1)]
    assert courier.seconds_until_next() is None


def test_waits_double() -> None:
    courier, clock, done = courier_with(ScriptedClient(DOWN, DOWN, DOWN, [None, None]))
    courier.post(PARCEL)
    for wait in (5, 10, 20):
        courier.try_next()
        assert courier.seconds_until_next() == wait
        clock.now += wait - 1
        courier.try_next()  # too early: no line of the script is used up
        clock.now += 1
    courier.try_next()
    assert done == [Delivery(PARCEL, PACS, tries=4)]


def test_only_what_is_left_is_sent_again() -> None:
    full = StatusError("out of resources", 0xA700)
    client = ScriptedClient([None, full], [None])
    courier, clock, done = courier_with(client)
    courier.post(PARCEL)
    courier.try_next()
    clock.now += 5
    courier.try_next()
    assert client.asked == [["a.dcm", "b.dcm"], ["b.dcm"]]
    assert done == [Delivery(PARCEL, PACS, tries=2)]


def test_an_object_refused_for_what_it_is_is_not_sent_again() -> None:
    courier, _, done = courier_with(ScriptedClient([StatusError("no match", 0xA900), None]))
    courier.post(PARCEL)
    courier.try_next()
    assert done == [Delivery(PARCEL, PACS, tries=1, errors=("no match",))]


def test_a_destination_that_stays_down_is_given_up_in_time() -> None:
    courier, clock, done = courier_with(ScriptedClient(*[DOWN] * 10), retry_seconds=30)
    courier.post(PARCEL)
    for _ in range(10):
        courier.try_next()
        clock.now += courier.seconds_until_next() or 0
    # Tried at 0, 5, 15 and 35 seconds; the last is past the 30.
    assert done == [Delivery(PARCEL, PACS, tries=4, errors=("pacs cannot be reached",))]


def test_a_waiting_parcel_does_not_hold_up_the_next() -> None:
    courier, _, done = courier_with(ScriptedClient(DOWN, [None]))
    second = Parcel("1.3", 1, (Path("c.dcm"),))
    courier.post(PARCEL)
    courier.try_next()
    courier.post(second)
    courier.try_next()
    assert done == [Delivery(second, PACS, tries=1)]
    assert courier.seconds_until_next() == 5


def test_files_that_cannot_be_read_are_given_up_at_once() -> None:
    courier, _, done = courier_with(ScriptedClient(ValueError("something of a patient")))
    courier.post(PARCEL)
    courier.try_next()
    assert done == [Delivery(PARCEL, PACS, tries=1, errors=("the results cannot be sent (ValueError)",))]


def test_stopping_a_courier_that_never_started() -> None:
    courier, _, done = courier_with(ScriptedClient())
    courier.stop()
    assert done == []


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


def test_the_outbox_keeps_objects_in_order(tmp_path: Path, outbox: Outbox, images: list[FileDataset]) -> None:
    parcel = outbox.put("1.2", 1, images)
    assert [dcmread(f).SOPInstanceUID for f in parcel.files] == [i.SOPInstanceUID for i in images]
    assert list(Outbox(tmp_path / "outbox").parcels()) == [parcel]
    outbox.discard(parcel)
    assert list((tmp_path / "outbox").iterdir()) == []


def test_a_report_made_again_replaces_the_first(outbox: Outbox, images: list[FileDataset]) -> None:
    outbox.put("1.2", 1, images)
    assert len(outbox.put("1.2", 1, images[:1]).files) == 1


def test_what_was_half_written_is_swept(tmp_path: Path, outbox: Outbox, images: list[FileDataset]) -> None:
    whole = outbox.put("1.2", 1, images[:1])
    half = tmp_path / "outbox" / "1.2" / ".2.part"
    half.mkdir()
    (half / "001.dcm").write_bytes(b"half")
    assert list(Outbox(tmp_path / "outbox").parcels()) == [whole]
    assert not half.exists()


def test_a_report_that_a_full_disk_stopped_can_be_written_later(
    tmp_path: Path, outbox: Outbox, images: list[FileDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("mammoscope.node.delivery.sync", full)
        with pytest.raises(OSError, match="No space left"):
            outbox.put("1.2", 1, images)
    assert (tmp_path / "outbox" / "1.2" / ".1.part").exists()
    assert len(outbox.put("1.2", 1, images[:2]).files) == 2


def test_setting_aside_says_why(tmp_path: Path, outbox: Outbox, images: list[FileDataset]) -> None:
    target = tmp_path / "failed" / "1.2" / "report-1"
    outbox.set_aside(outbox.put("1.2", 1, images[:1]), target, {"not delivered to": {"pacs": ["why"]}})
    assert json.loads((target / "reason.json").read_text()) == {"not delivered to": {"pacs": ["why"]}}
    assert len(list(target.glob("*.dcm"))) == 1
    assert list(outbox.parcels()) == []
