"""Who is dead, and what happens to one who was only slow."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mammoscope.node.records import Records
from mammoscope.node.vigil import Vigil


class Work:
    """What a vigil needs of the work: whose it is, and that it can be taken over."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.taken_over: list[str] = []

    def take_over(self, worker: str) -> int:
        self.taken_over.append(worker)
        return 0


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path, None) as records:
        yield records


def test_one_who_was_thought_dead_and_lives_is_not_buried_again_and_again(records: Records) -> None:
    now = [0.0]
    ours, theirs = Work("ours"), Work("theirs")
    watching = Vigil(ours, records, beat_every_seconds=5, dead_after_seconds=30, clock=lambda: now[0])
    slow = Vigil(theirs, records, beat_every_seconds=5, dead_after_seconds=30, clock=lambda: now[0])
    slow.keep()
    for _ in range(7):  # as under a load that leaves the other no time
        watching.keep()
        now[0] += 5
    assert ours.taken_over == ["theirs"]
    for _ in range(12):
        slow.keep()
        watching.keep()
        now[0] += 5
    assert ours.taken_over == ["theirs"]
    assert theirs.taken_over == []
    for _ in range(8):
        watching.keep()
        now[0] += 5
    assert ours.taken_over == ["theirs", "theirs"]
