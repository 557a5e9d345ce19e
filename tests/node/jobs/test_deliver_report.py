import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import FileDataset
from sqlalchemy.exc import OperationalError

from mammoscope.findings import ReadingStatus
from mammoscope.network import Instance, PeerUnreachableError, Sending, StatusError
from mammoscope.node.db.repository import (
    DeliveryRecord,
    DeliveryStatus,
    ImageRecord,
    Records,
    Report,
    ResultRecord,
    SendingRecord,
)
from mammoscope.node.events import Event, ReportParked, ReportSent, SendingFailed
from mammoscope.node.jobs.deliver_report import GONE, NO_DESTINATION, DeliveryWork, wait_after
from mammoscope.node.jobs.queue import DurableWork
from mammoscope.node.storage.outbox import Outbox

DOWN = PeerUnreachableError("pacs cannot be reached")
FULL = StatusError("out of resources", 0xA700)
NO_MATCH = StatusError("the data set does not match", 0xA900)
HOUR = 3600.0


class Script:
    """Answers each call by its next line: an exception, or one error (or ``None``) an object."""

    def __init__(self, *lines: Exception | Sequence[StatusError | None]) -> None:
        self.lines = list(lines)
        self.asked: list[list[str]] = []

    def __call__(
        self, files: Sequence[Path], on_sent: Callable[[str], None], may_send: Callable[[], bool]
    ) -> tuple[Sending, ...]:
        assert may_send()
        uids = [file.stem.partition("-")[2] for file in files]
        self.asked.append(uids)
        line = self.lines.pop(0)
        if isinstance(line, Exception):
            raise line
        for uid, error in zip(uids, line, strict=True):
            if error is None:
                on_sent(uid)
        return tuple(Sending(uid, error) for uid, error in zip(uids, line, strict=True))


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path) as records:
        yield records


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def a_b(images: list[FileDataset]) -> tuple[str, str]:
    """UIDs of the two objects of every report here."""
    return str(images[0].SOPInstanceUID), str(images[1].SOPInstanceUID)


@pytest.fixture
def add_report(records: Records, outbox: Outbox, images: list[FileDataset], a_b) -> Callable[[int], None]:
    def add(number: int) -> None:
        records.add_object("1.2", "1.2.1", "1.8", peer="MODALITY")
        outbox.put("1.2", number, images[:2])
        pending = tuple(SendingRecord(sop_instance_uid=uid, status=DeliveryStatus.PENDING) for uid in a_b)
        report = Report(
            number=number,
            made_at=datetime.now(UTC),
            algorithm="Blob 1",
            seconds=1,
            images=(ImageRecord(sop_instance_uid="1.2.1", status=ReadingStatus.NOTHING_FOUND),),
            results=tuple(ResultRecord(sop_class_uid="1.9", sop_instance_uid=uid) for uid in a_b),
            deliveries=(DeliveryRecord(destination="pacs", objects=pending),),
        )
        assert records.add_report("1.2", report)

    return add


@pytest.fixture
def deliver(tmp_path: Path, records: Records, outbox: Outbox, events: list[Event]):
    """Try what is next to be tried, by a script."""

    def deliver(script: Script, retry_seconds: float = HOUR, **confirms: object) -> DeliveryRecord:
        work = DurableWork("test", tmp_path)
        sends = {"pacs": script}
        delivery = DeliveryWork(work, records, outbox, sends, confirms, {"pacs": retry_seconds}, events.append)
        [order] = records.deliveries_to_make()
        delivery.try_once(order)
        return records.delivery("1.2", order.number, "pacs")

    return deliver


def test_what_arrives_is_sent(add_report, deliver, events: list[Event], a_b) -> None:
    add_report(1)
    script = Script([None, None])
    delivery = deliver(script)
    assert (delivery.status, delivery.tries, delivery.errors) == (DeliveryStatus.SENT, 1, ())
    assert script.asked == [list(a_b)]
    [sent] = events
    assert isinstance(sent, ReportSent)
    assert sent.sop_instances == a_b


def test_waits_double_up_to_ten_minutes() -> None:
    assert [wait_after(tries) for tries in (1, 2, 3, 7, 8, 10_000)] == [5, 10, 20, 320, 600, 600]


def test_a_destination_that_is_down_is_tried_again(add_report, deliver, events: list[Event]) -> None:
    add_report(1)
    script = Script(DOWN, DOWN, [None, None])
    first = deliver(script)
    assert (first.status, first.tries, first.waited_seconds) == (DeliveryStatus.PENDING, 1, 5)
    assert first.next_try_at is not None
    assert first.errors == ("pacs cannot be reached",)
    assert deliver(script).waited_seconds == 15
    last = deliver(script)
    assert (last.status, last.tries, last.errors, last.next_try_at) == (DeliveryStatus.SENT, 3, (), None)
    assert [type(e) for e in events] == [SendingFailed, SendingFailed, ReportSent]


def test_only_a_destination_that_was_down_hastens_the_others(
    add_report, deliver, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    hastened: list[str] = []
    monkeypatch.setattr(records, "hasten", hastened.append)
    add_report(1)
    deliver(Script([None, None]))
    assert hastened == []
    add_report(2)
    records.resend("1.2", 2)
    deliver(Script(DOWN))
    assert hastened == []
    assert deliver(Script([None, None])).status is DeliveryStatus.SENT
    assert hastened == ["pacs"]


def test_only_what_is_left_is_sent_again(add_report, deliver, a_b) -> None:
    add_report(1)
    script = Script([None, FULL], [None])
    deliver(script)
    assert deliver(script).status is DeliveryStatus.SENT
    assert script.asked == [list(a_b), [a_b[1]]]


def test_an_object_refused_for_what_it_is_is_parked_and_the_others_go(add_report, deliver, events, a_b) -> None:
    add_report(1)
    delivery = deliver(Script([NO_MATCH, None]))
    assert delivery.status is DeliveryStatus.PARKED
    assert delivery.errors == ("the data set does not match",)
    assert [(o.sop_instance_uid, str(o.status), o.error) for o in delivery.objects] == [
        (a_b[0], "parked", "the data set does not match"),
        (a_b[1], "sent", None),
    ]
    [parked] = events
    assert isinstance(parked, ReportParked)
    assert parked.reasons == ("the data set does not match",)


def test_a_destination_that_stays_down_is_given_up_in_time(add_report, deliver) -> None:
    add_report(1)
    script = Script(*[DOWN] * 10)
    # Waits 5, 10 and 20 seconds: then the 30 are over.
    statuses = [deliver(script, retry_seconds=30).status for _ in range(4)]
    assert [str(s) for s in statuses] == ["pending", "pending", "pending", "parked"]
    assert len(script.asked) == 4


def test_a_person_has_it_resent_whole(add_report, deliver, records: Records, a_b) -> None:
    add_report(1)
    deliver(Script([NO_MATCH, None]))
    records.resend("1.2")
    script = Script([None, None])
    assert deliver(script).status is DeliveryStatus.SENT
    assert script.asked == [list(a_b)]


def test_what_a_destination_has_of_an_earlier_report_is_not_sent_twice(add_report, deliver) -> None:
    add_report(1)
    deliver(Script([None, None]))
    add_report(2)
    script = Script()
    delivery = deliver(script)
    assert (delivery.status, script.asked) == (DeliveryStatus.SENT, [])
    assert [str(o.status) for o in delivery.objects] == ["sent", "sent"]


def test_what_was_acknowledged_before_a_crash_is_not_sent_again(add_report, deliver, a_b) -> None:
    add_report(1)

    class Crash(BaseException):
        pass

    def crash(_: Sequence[Path], on_sent: Callable[[str], None], __: Callable[[], bool]) -> tuple[Sending, ...]:
        on_sent(a_b[0])
        raise Crash

    with pytest.raises(Crash):
        deliver(crash)
    script = Script([None])
    assert deliver(script).status is DeliveryStatus.SENT
    assert script.asked == [[a_b[1]]]


def test_a_try_that_is_over_does_nothing(tmp_path: Path, add_report, deliver, records: Records, outbox: Outbox) -> None:
    add_report(1)
    [order] = records.deliveries_to_make()
    deliver(Script(DOWN))
    script = Script()
    DeliveryWork(DurableWork("t", tmp_path), records, outbox, {"pacs": script}, {}, {}, lambda _: None).try_once(order)
    assert script.asked == []


def test_files_that_cannot_be_sent_are_parked_without_their_words(add_report, deliver) -> None:
    add_report(1)
    delivery = deliver(Script(ValueError("something of a patient")))
    assert (str(delivery.status), delivery.errors) == ("parked", ("the results cannot be sent (ValueError)",))


def test_results_that_are_gone_are_parked(add_report, deliver, outbox: Outbox) -> None:
    add_report(1)
    outbox.discard("1.2", 1)
    assert deliver(Script()).errors == (GONE,)


def test_a_destination_that_is_gone_is_parked(tmp_path: Path, add_report, records: Records, outbox: Outbox) -> None:
    add_report(1)
    [order] = records.deliveries_to_make()
    DeliveryWork(DurableWork("t", tmp_path), records, outbox, {}, {}, {}, lambda _: None).try_once(order)
    assert records.delivery("1.2", 1, "pacs").errors == (NO_DESTINATION,)


class Promises:
    """Answers each request for commitment by its next line."""

    def __init__(self, *lines: Exception | Mapping[str, str]) -> None:
        self.lines = list(lines)
        self.asked: list[list[Instance]] = []

    def __call__(self, instances: Sequence[Instance]) -> Mapping[str, str]:
        self.asked.append(list(instances))
        line = self.lines.pop(0)
        if isinstance(line, Exception):
            raise line
        return line


def test_a_report_is_sent_only_when_it_was_committed(add_report, deliver, a_b) -> None:
    add_report(1)
    script = Script([None, None], [None])
    promises = Promises(DOWN, {a_b[1]: "it does not have it"}, {})
    first = deliver(script, pacs=promises)
    assert (str(first.status), first.errors) == ("pending", ("pacs cannot be reached",))
    second = deliver(script, pacs=promises)  # nothing to send, but to be asked about again
    assert (str(second.status), second.errors) == ("pending", ("it does not have it",))
    assert str(deliver(script, pacs=promises).status) == "sent"
    assert script.asked == [list(a_b), [a_b[1]]]
    assert promises.asked[0] == [Instance("1.9", uid) for uid in a_b]


def test_what_is_never_committed_is_parked(add_report, deliver) -> None:
    add_report(1)
    delivery = deliver(Script([None, None]), retry_seconds=0, pacs=Promises(DOWN))
    assert (str(delivery.status), delivery.errors) == ("parked", ("pacs cannot be reached",))


def disk_is_full(*_: object, **__: object) -> None:
    raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database or disk is full"))


def test_what_was_acknowledged_is_not_sent_again_though_the_database_took_no_note(
    add_report, tmp_path: Path, records: Records, outbox: Outbox, events: list[Event], a_b, monkeypatch
) -> None:
    add_report(1)
    script = Script([None, FULL], [None])
    sends, confirms = {"pacs": script}, {}
    work = DeliveryWork(DurableWork("test", tmp_path), records, outbox, sends, confirms, {"pacs": HOUR}, events.append)
    [order] = records.deliveries_to_make()
    with monkeypatch.context() as full:
        full.setattr(records, "note_sent", disk_is_full)
        full.setattr(records, "set_delivery", disk_is_full)
        with pytest.raises(OperationalError):
            work.try_once(order)
    assert records.delivery("1.2", 1, "pacs").tries == 0
    work.try_once(order)
    assert script.asked == [list(a_b), [a_b[1]]]
    delivery = records.delivery("1.2", 1, "pacs")
    assert (delivery.status, [o.status for o in delivery.objects]) == (DeliveryStatus.SENT, [DeliveryStatus.SENT] * 2)
    assert [type(event) for event in events] == [ReportSent]


def test_what_cannot_be_read_here_for_a_moment_is_not_parked(add_report, deliver) -> None:
    add_report(1)
    script = Script(OSError(5, "Input/output error"), [None, None])
    first = deliver(script)
    assert (first.status, first.tries) == (DeliveryStatus.PENDING, 1)
    assert first.errors == ("the results cannot be read here now (OSError)",)
    assert deliver(script).status is DeliveryStatus.SENT
