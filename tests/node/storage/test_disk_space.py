import shutil
import threading
from pathlib import Path

import pytest

from mammoscope.node.storage.disk_space import DiskGuard


class Disk:
    """A disk with as much room as one says, and a clock that one moves."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0
        self.now = 0.0

    def measure(self, _: Path) -> int:
        self.looks += 1
        if self.free < 0:
            raise OSError(5, "Input/output error")
        return self.free

    def clock(self) -> float:
        return self.now


@pytest.fixture
def disk() -> Disk:
    return Disk(1000)


@pytest.fixture
def guard(disk, tmp_path) -> DiskGuard:
    return DiskGuard(tmp_path, 100, 150, measure=disk.measure, clock=disk.clock)


def later(disk: Disk, free: int) -> None:
    disk.free = free
    disk.now += 1.0


def test_it_closes_below_the_limit_and_opens_well_above_it(guard, disk):
    answers = []
    for free in (100, 99, 100, 149, 150, 149, 100, 99):
        later(disk, free)
        answers.append(guard.has_room())
    assert answers == [True, False, False, False, True, True, True, False]


def test_it_looks_once_a_second(guard, disk):
    for _ in range(1000):
        assert guard.has_room()
    assert disk.looks == 1
    disk.now += 0.99
    guard.has_room()
    assert disk.looks == 1
    disk.now += 0.01
    guard.has_room()
    assert disk.looks == 2


def test_what_was_written_counts_before_the_next_look(guard, disk):
    assert guard.has_room()
    guard.wrote(900)
    assert guard.has_room()
    guard.wrote(1)
    assert not guard.has_room()
    assert disk.looks == 1

    later(disk, 1000)  # it was written elsewhere, or deleted since
    assert guard.has_room()


def test_a_disk_that_cannot_be_looked_at_has_no_room_until_it_can(guard, disk):
    later(disk, -1)
    assert not guard.has_room()
    later(disk, 1000)
    assert guard.has_room()


def test_no_limit_is_no_limit_but_for_a_lost_disk(disk, tmp_path):
    guard = DiskGuard(tmp_path, 0, measure=disk.measure, clock=disk.clock)
    later(disk, 0)
    assert guard.has_room()
    later(disk, -1)
    assert not guard.has_room()


def test_it_opens_a_quarter_above_by_default(disk, tmp_path):
    guard = DiskGuard(tmp_path, 100, measure=disk.measure, clock=disk.clock)
    answers = []
    for free in (99, 124, 125):
        later(disk, free)
        answers.append(guard.has_room())
    assert answers == [False, False, True]


def test_the_real_disk(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert DiskGuard(tmp_path, free // 2).has_room()
    assert not DiskGuard(tmp_path, free * 2).has_room()
    assert not DiskGuard(tmp_path / "not there", 0).has_room()


def test_several_threads_lose_no_bytes(guard):
    guard.has_room()
    threads = [
        threading.Thread(target=lambda: [guard.wrote(1) for _ in range(225)] and guard.has_room()) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guard.has_room()  # 1000 - 4 * 225 leaves exactly the limit
    guard.wrote(1)
    assert not guard.has_room()


def test_the_refusal_says_the_limit(tmp_path):
    assert "less than 2 GB are free" in DiskGuard(tmp_path, 2_000_000_000).refusal


def test_limits_that_contradict(tmp_path):
    with pytest.raises(ValueError, match="closes below 100 bytes cannot open at 99"):
        DiskGuard(tmp_path, 100, 99)
