from collections.abc import Iterator
from pathlib import Path

import pytest

from mammoscope.node.db.repository import Records
from mammoscope.node.jobs.heartbeat import Heartbeat


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Says whose work was taken over, in place of the queues."""

    def __init__(self, worker: str, fails: bool = False) -> None:
        self.worker = worker
        self.taken_over: list[str] = []
        self.fails = fails
        self.held_by: set[str] = set()

    def take_over(self, worker: str) -> int:
        if self.fails:
            raise OSError("the database is away")
        self.taken_over.append(worker)
        self.held_by.discard(worker)
        return 1

    def holders(self) -> frozenset[str]:
        return frozenset(self.held_by)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path) as records:
        yield records


@pytest.fixture
def clock() -> Clock:
    return Clock()


def heartbeat_of(work: Work, records: Records, clock: Clock) -> Heartbeat:
    return Heartbeat(work, records, beat_every_seconds=5, dead_after_seconds=30, clock=clock)


def names(records: Records) -> list[str]:
    return [worker.name for worker in records.workers()]


def pass_time(clock: Clock, seconds: int, *heartbeats: Heartbeat) -> None:
    for _ in range(seconds // 5):
        clock.now += 5
        for heartbeat in heartbeats:
            heartbeat.keep()


def test_those_who_beat_are_left_alone(records: Records, clock: Clock) -> None:
    a, b = Work("a"), Work("b")
    heartbeats = [heartbeat_of(work, records, clock) for work in (a, b)]
    pass_time(clock, 120, *heartbeats)
    assert names(records) == ["a", "b"]
    assert a.taken_over == b.taken_over == []


def test_the_work_of_one_who_beats_no_more_is_taken_over_once(records: Records, clock: Clock) -> None:
    a, b, dead = Work("a"), Work("b"), Work("dead")
    heartbeats = [heartbeat_of(work, records, clock) for work in (a, b)]
    heartbeat_of(dead, records, clock).keep()
    pass_time(clock, 25, *heartbeats)
    assert a.taken_over + b.taken_over == []
    pass_time(clock, 15, *heartbeats)
    assert a.taken_over + b.taken_over == ["dead"]
    assert names(records) == ["a", "b"]


def test_a_beat_whatever_its_clock_says_is_a_sign_of_life(records: Records, clock: Clock) -> None:
    a, other = Work("a"), Work("other")
    watcher, watched = heartbeat_of(a, records, clock), heartbeat_of(other, records, clock)
    for _ in range(8):
        watched.keep()  # all of its times are those of this test's start
        pass_time(clock, 25, watcher)
    assert a.taken_over == []


def test_a_taking_over_that_fails_is_done_later(records: Records, clock: Clock) -> None:
    a = Work("a", fails=True)
    watcher = heartbeat_of(a, records, clock)
    heartbeat_of(Work("dead"), records, clock).keep()
    with pytest.raises(OSError, match="away"):
        pass_time(clock, 60, watcher)
    a.fails = False
    pass_time(clock, 5, watcher)
    assert a.taken_over == ["dead"]


def test_after_a_sleep_of_our_own_nobody_is_taken_for_dead_at_once(records: Records, clock: Clock) -> None:
    a, b = Work("a"), Work("b")
    watcher, watched = heartbeat_of(a, records, clock), heartbeat_of(b, records, clock)
    pass_time(clock, 10, watched, watcher)
    clock.now += 3600  # the machine slept, or the database was away
    watcher.keep()
    pass_time(clock, 20, watched, watcher)
    assert a.taken_over == []


def test_one_who_was_declared_dead_and_lives_is_not_so_again_and_again(records: Records, clock: Clock) -> None:
    ours, theirs = Work("ours"), Work("theirs")
    watching, slow = heartbeat_of(ours, records, clock), heartbeat_of(theirs, records, clock)
    slow.keep()
    pass_time(clock, 35, watching)  # as under a load that leaves the other no time
    assert ours.taken_over == ["theirs"]
    pass_time(clock, 60, slow, watching)
    assert ours.taken_over == ["theirs"]
    assert theirs.taken_over == []
    pass_time(clock, 40, watching)
    assert ours.taken_over == ["theirs", "theirs"]


def test_a_claim_ends_when_another_took_the_work_over(records: Records, clock: Clock) -> None:
    watching, slow = heartbeat_of(Work("ours"), records, clock), heartbeat_of(Work("slow"), records, clock)
    slow.keep()
    is_ours = slow.claim()
    pass_time(clock, 20, watching)
    assert is_ours()  # silent for long, and found dead by nobody
    pass_time(clock, 45, watching)
    assert "slow" not in names(records)
    assert not is_ours()  # woken: the records are asked before anything else is sent
    assert not is_ours()
    assert slow.claim()()  # new work is ours again


def test_a_claim_that_cannot_be_asked_about_is_lost(tmp_path: Path, clock: Clock) -> None:
    records = Records.open(tmp_path)
    slow = heartbeat_of(Work("slow"), records, clock)
    slow.keep()
    is_ours = slow.claim()
    (tmp_path / "node.sqlite").unlink()
    records.close()
    (tmp_path / "node.sqlite").mkdir()
    assert is_ours()  # a beat ago it was ours, and nobody can have found us dead since
    clock.now += 20
    assert not is_ours()


def test_work_of_one_who_is_in_no_record_is_taken_over(records: Records, clock: Clock) -> None:
    """It was found dead, began more all the same, and died before its next beat."""
    a = Work("a")
    a.held_by = {"a", "gone", "beats"}
    watcher, other = heartbeat_of(a, records, clock), heartbeat_of(Work("beats"), records, clock)
    pass_time(clock, 25, other, watcher)
    assert a.taken_over == []
    pass_time(clock, 15, other, watcher)
    assert a.taken_over == ["gone"]
    assert a.held_by == {"a", "beats"}
