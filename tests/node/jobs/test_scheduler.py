from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mammoscope.findings import ReadingStatus
from mammoscope.node.db.repository import DeliveryRecord, DeliveryStatus, ImageRecord, Records, Report
from mammoscope.node.events import Origin
from mammoscope.node.jobs.scheduler import Scheduler
from mammoscope.node.jobs.study_completion import StudyTracker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Book:
    """Writes down what is enqueued, in place of the queues."""

    entries: list[tuple[str, str, int]] = field(default_factory=list)
    swept: int = 0
    strays: int = 0

    def enqueue(self, queue: str, kind: str, name: str, *facts: Any, priority: int) -> None:
        assert kind in ("read study", "send report")
        assert name.split()[1:] == [str(fact) for fact in facts[:5]]
        self.entries.append((queue, name, priority))

    def sweep(self) -> int:
        self.swept += 1
        return 0

    def resume_strays(self) -> int:
        strays, self.strays = self.strays, 0
        return strays

    def take(self) -> list[tuple[str, str, int]]:
        entries, self.entries = self.entries, []
        return entries


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path) as records:
        yield records


@pytest.fixture
def make_scheduler(clock: Clock, book: Book, records: Records) -> Callable[..., Scheduler]:
    def make(**options: Any) -> Scheduler:
        tracker = StudyTracker(30, 3600, clock)
        facts = {
            "at_once": 1,
            "is_complete": lambda _: False,
            "destinations": ["pacs"],
            "may_send": lambda _: True,
            "tidy": lambda: None,
            **options,
        }
        return Scheduler(book, records, tracker, clock=clock, **facts)

    return make


def add(records: Records, study: str, origin: Origin = Origin.SENT, ago: float = 0.0) -> None:
    at = datetime.now(UTC) - timedelta(seconds=ago)
    records.add_object(study, f"{study}.1", "1.8", peer="MODALITY", origin=origin, at=at)


def report(study: str, number: int = 1, destination: str = "pacs") -> Report:
    image = ImageRecord(sop_instance_uid=f"{study}.1", status=ReadingStatus.NOTHING_FOUND)
    return Report(
        number=number,
        made_at=datetime.now(UTC),
        algorithm="Blob 1",
        seconds=1,
        images=(image,),
        results=(),
        deliveries=(DeliveryRecord(destination=destination),),
    )


def test_a_study_is_handed_out_once_when_it_was_quiet(records, make_scheduler, clock: Clock, book: Book) -> None:
    scheduler = make_scheduler()
    add(records, "1.2")
    scheduler.look()
    assert book.take() == []
    clock.now += 31
    scheduler.look()
    scheduler.look()
    assert book.take() == [("read", "read 1.2 1", 1)]


def test_a_complete_study_is_handed_out_at_once_but_a_late_view_waits(
    records, make_scheduler, clock: Clock, book: Book
) -> None:
    scheduler = make_scheduler(is_complete=lambda _: True)
    add(records, "1.2")
    scheduler.look()
    assert [name for _, name, _ in book.take()] == ["read 1.2 1"]
    records.add_report("1.2", report("1.2"))
    records.end_attempt("1.2", 1)
    records.add_object("1.2", "1.2.2", "1.8", peer="MODALITY")
    scheduler.look()
    assert "read 1.2 2" not in [name for _, name, _ in book.take()]
    clock.now += 31
    scheduler.look()
    assert "read 1.2 2" in [name for _, name, _ in book.take()]


def test_studies_sent_to_us_go_before_those_pulled(records, make_scheduler, book: Book) -> None:
    for number in range(6):
        add(records, f"1.3.{number}", Origin.PULLED, ago=3600)
    add(records, "1.2", ago=60)
    make_scheduler().look()
    entries = book.take()
    assert entries[0] == ("read", "read 1.2 1", 1)
    assert {priority for _, _, priority in entries[1:]} == {10}
    assert len(entries) == 2  # the others wait outside the queue: one that comes later may still go first


def test_however_many_workers_read_there_is_always_more_to_read(records, make_scheduler, book: Book) -> None:
    scheduler = make_scheduler()
    for number in range(9):
        add(records, f"1.2.{number}", ago=3600)
    for number in range(6):  # six workers, each of which has one
        assert records.begin_reading(f"1.2.{number}", 1) is not None
    scheduler.look()
    assert {name for _, name, _ in book.take()} == {f"read 1.2.{number} 1" for number in range(8)}


def test_an_overdue_study_goes_first(records, make_scheduler, clock: Clock, book: Book) -> None:
    scheduler = make_scheduler(reconcile_every_seconds=7200)
    add(records, "1.2", ago=1000)
    scheduler.look()
    clock.now += 3590
    for number in range(3):  # by the wall clock they have waited longer
        add(records, f"1.1.{number}", ago=2000)
    scheduler.look()
    assert "read 1.2 1" not in [name for _, name, _ in book.take()[1:]]
    records.end_attempt("1.2", 1)
    clock.now += 20
    scheduler.look()
    assert [name for _, name, _ in book.take()] == ["read 1.2 2"]


def test_a_person_s_retry_is_handed_out_at_once(records, make_scheduler, book: Book) -> None:
    scheduler = make_scheduler()
    add(records, "1.2")
    records.add_report("1.2", report("1.2"))
    records.end_attempt("1.2", 1)
    scheduler.look()
    book.take()
    records.retry("1.2")
    scheduler.look()
    assert ("read", "read 1.2 2", 1) in book.take()


def test_a_delivery_is_handed_out_when_its_time_has_come(records, make_scheduler, clock: Clock, book: Book) -> None:
    scheduler = make_scheduler()
    add(records, "1.2", Origin.PULLED)
    records.add_report("1.2", report("1.2"))
    scheduler.look()
    scheduler.look()
    assert book.take() == [("send pacs", "send 1.2 1 pacs 1 0", 10)]
    later = DeliveryRecord(
        destination="pacs", tries=1, waited_seconds=5, next_try_at=datetime.now(UTC) + timedelta(seconds=5)
    )
    records.set_delivery("1.2", 1, later)
    scheduler.look()
    assert book.take() == []
    clock.now += 6
    scheduler.look()
    assert book.take() == [("send pacs", "send 1.2 1 pacs 1 1", 10)]


def test_a_destination_that_answers_again_gets_at_once_what_waited_for_it(records, make_scheduler, book: Book) -> None:
    scheduler = make_scheduler()
    for study in ("1.2", "1.3"):
        add(records, study)
        records.add_report(study, report(study))
    scheduler.look()
    book.take()
    at = datetime.now(UTC) + timedelta(seconds=400)
    for study in ("1.2", "1.3"):
        put_off = DeliveryRecord(destination="pacs", tries=8, waited_seconds=1000, next_try_at=at)
        records.set_delivery(study, 1, put_off)
    scheduler.look()
    assert book.take() == []

    records.hasten("another")
    scheduler.look()
    assert book.take() == []
    records.hasten("pacs")
    scheduler.look()

    assert sorted(book.take()) == [("send pacs", "send 1.2 1 pacs 1 8", 1), ("send pacs", "send 1.3 1 pacs 1 8", 1)]
    assert records.delivery("1.2", 1, "pacs").waited_seconds == pytest.approx(600, abs=60)  # 400 were not waited


@pytest.mark.parametrize("leap", [timedelta(days=3650), timedelta(days=-3650)])
def test_a_leap_of_the_clock_delays_no_delivery_beyond_its_wait(
    records, make_scheduler, clock: Clock, book: Book, leap: timedelta
) -> None:
    add(records, "1.2")
    records.add_report("1.2", report("1.2"))
    at = datetime.now(UTC) + leap
    records.set_delivery("1.2", 1, DeliveryRecord(destination="pacs", tries=3, waited_seconds=35, next_try_at=at))
    scheduler = make_scheduler(reconcile_every_seconds=7200)
    scheduler.look()
    clock.now += 21  # a third try is followed by a wait of 20 seconds
    scheduler.look()
    assert book.take() == [("send pacs", "send 1.2 1 pacs 1 3", 1)]


def test_what_may_not_be_sent_waits(records, make_scheduler, book: Book) -> None:
    add(records, "1.2")
    records.add_report("1.2", report("1.2"))
    make_scheduler(may_send=lambda _: False).look()
    assert book.take() == []


def test_a_delivery_to_no_one_is_handed_out_to_be_parked(records, make_scheduler, book: Book) -> None:
    add(records, "1.2")
    records.add_report("1.2", report("1.2", destination="gone"))
    make_scheduler().look()
    assert book.take() == [("send to no one", "send 1.2 1 gone 1 0", 1)]


def test_every_few_seconds_it_hands_out_anew_what_did_not_end_and_every_minute_it_tidies(
    records, make_scheduler, clock: Clock, book: Book
) -> None:
    tidied: list[float] = []
    scheduler = make_scheduler(tidy=lambda: tidied.append(clock.now), is_complete=lambda _: True)
    add(records, "1.2")
    scheduler.look()
    clock.now += 9
    scheduler.look()
    assert book.take() == [("read", "read 1.2 1", 1)]
    clock.now += 1
    book.strays = 2
    with capture_logs() as logs:
        scheduler.look()
    assert book.take() == [("read", "read 1.2 1", 1)]
    assert [(log["event"], log["pieces"]) for log in logs] == [("work in nobody's hand begun anew", 2)]
    assert book.swept == 2
    assert tidied == [100]
    clock.now += 50
    scheduler.look()
    assert tidied == [100, 160]


def test_a_scheduler_that_cannot_look_says_so(make_scheduler, clock: Clock) -> None:
    scheduler = make_scheduler()
    scheduler.look()
    clock.now += 59
    assert scheduler.trouble is None
    clock.now += 1
    assert "nothing was handed out to be read or sent for 60 s" in str(scheduler.trouble)
    scheduler.look()
    assert scheduler.trouble is None


def test_what_is_done_is_not_handed_out(records, make_scheduler, book: Book) -> None:
    add(records, "1.2", ago=60)
    records.add_report("1.2", report("1.2"))
    sent = DeliveryRecord(destination="pacs", status=DeliveryStatus.SENT, tries=1)
    records.set_delivery("1.2", 1, sent)
    make_scheduler().look()
    assert book.take() == []
