from collections.abc import Iterator
from pathlib import Path

import pytest

from mammoscope.node.db.repository import Records
from mammoscope.node.jobs.heartbeat import Vigil


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

    def take_over(self, worker: str) -> int:
        if self.fails:
            raise OSError("the database is away")
        self.taken_over.append(worker)
        return 1


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path) as records:
        yield records


@pytest.fixture
def clock() -> Clock:
    return Clock()


def vigil_of(work: Work, records: Records, clock: Clock) -> Vigil:
    return Vigil(work, records, beat_every_seconds=5, dead_after_seconds=30, clock=clock)


def names(records: Records) -> list[str]:
    return [worker.name for worker in records.workers()]


def pass_time(clock: Clock, seconds: int, *vigils: Vigil) -> None:
    for _ in range(seconds // 5):
        clock.now += 5
        for vigil in vigils:
            vigil.keep()


def test_those_who_beat_are_left_alone(records: Records, clock: Clock) -> None:
    a, b = Work("a"), Work("b")
    vigils = [vigil_of(work, records, clock) for work in (a, b)]
    pass_time(clock, 120, *vigils)
    assert names(records) == ["a", "b"]
    assert a.taken_over == b.taken_over == []


def test_the_work_of_one_who_beats_no_more_is_taken_over_once(records: Records, clock: Clock) -> None:
    a, b, dead = Work("a"), Work("b"), Work("dead")
    vigils = [vigil_of(work, records, clock) for work in (a, b)]
    vigil_of(dead, records, clock).keep()
    pass_time(clock, 25, *vigils)
    assert a.taken_over + b.taken_over == []
    pass_time(clock, 15, *vigils)
    assert a.taken_over + b.taken_over == ["dead"]
    assert names(records) == ["a", "b"]


def test_a_beat_whatever_its_clock_says_is_a_sign_of_life(records: Records, clock: Clock) -> None:
    a, other = Work("a"), Work("other")
    watcher, watched = vigil_of(a, records, clock), vigil_of(other, records, clock)
    for _ in range(8):
        watched.keep()  # all of its times are those of this test's start
        pass_time(clock, 25, watcher)
    assert a.taken_over == []


def test_a_taking_over_that_fails_is_done_later(records: Records, clock: Clock) -> None:
    a = Work("a", fails=True)
    watcher = vigil_of(a, records, clock)
    vigil_of(Work("dead"), records, clock).keep()
    with pytest.raises(OSError, match="away"):
        pass_time(clock, 60, watcher)
    a.fails = False
    pass_time(clock, 5, watcher)
    assert a.taken_over == ["dead"]


def test_after_a_sleep_of_our_own_nobody_is_taken_for_dead_at_once(records: Records, clock: Clock) -> None:
    a, b = Work("a"), Work("b")
    watcher, watched = vigil_of(a, records, clock), vigil_of(b, records, clock)
    pass_time(clock, 10, watched, watcher)
    clock.now += 3600  # the machine slept, or the database was away
    watcher.keep()
    pass_time(clock, 20, watched, watcher)
    assert a.taken_over == []


def test_one_who_was_thought_dead_and_lives_is_not_buried_again_and_again(records: Records, clock: Clock) -> None:
    ours, theirs = Work("ours"), Work("theirs")
    watching, slow = vigil_of(ours, records, clock), vigil_of(theirs, records, clock)
    slow.keep()
    pass_time(clock, 35, watching)  # as under a load that leaves the other no time
    assert ours.taken_over == ["theirs"]
    pass_time(clock, 60, slow, watching)
    assert ours.taken_over == ["theirs"]
    assert theirs.taken_over == []
    pass_time(clock, 40, watching)
    assert ours.taken_over == ["theirs", "theirs"]
