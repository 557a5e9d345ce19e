"""Faults under a running node, some of those of `benchmarks/faults.py`: what was acknowledged is answered all the same.

Nobody restarts the node here but where it was killed.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faults(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("faults")


@pytest.fixture(scope="module")
def node(faults: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with faults.FaultyNode(tmp_path_factory.mktemp("faulty")).running() as node:
        yield node


def test_a_run_goes_on_where_an_earlier_one_ended(faults: ModuleType, tmp_path: Path) -> None:
    file, fault = tmp_path / "outcomes", faults.Fault("sync", "inbox", 2, "EIO")
    undisturbed = Mock(trace=lambda: Counter({("sync", "inbox"): 1}))
    first = faults.Progress(file)
    planned = first.faults(undisturbed, often=3)
    first.add(faults.Outcome("one", 1, answered=False, known=False, seconds=120.0, twice=0))
    first.add(faults.Outcome("two", 1, answered=True, known=False, seconds=2.0, twice=0))

    second = faults.Progress(file)
    assert second.faults(Mock(trace=lambda: pytest.fail("the plan is there")), often=3) == planned
    names = ("one", "two", str(fault))
    assert [name for name in names if second.wants(name, again=False)] == [str(fault)]
    assert [name for name in names if second.wants(name, again=True)] == ["one"]
    second.add(faults.Outcome("one", 1, answered=True, known=False, seconds=3.0, twice=0))
    assert all(outcome.held for outcome in faults.Progress(file).outcomes)


def test_a_disk_that_is_full_for_a_moment_strands_nothing(faults: ModuleType, node) -> None:
    for outcome in (node.full_while_sending(0.05), node.full_while_reading(3.0)):
        assert outcome.happened, outcome
        assert outcome.answered, outcome
        assert outcome.seconds < 60, outcome
    node.faults.arm(faults.CHANGE, faults.ERRORS["ENOSPC"], times=-1)
    is_ready, parts = node.ready()
    node.faults.disarm()
    assert not is_ready
    assert "No space left on device" in parts["storage"]


@pytest.mark.parametrize(
    ("operation", "path", "number", "error"),
    [
        ("sync", "work.sqlite", 6, "EIO"),
        ("write", "node.sqlite-wal", 30, "ENOSPC"),
        ("link", "inbox", 1, "EIO"),
        ("write", "work.sqlite-wal", 60, "kill"),
    ],
)
def test_an_operation_that_fails_once_costs_no_answer(
    faults: ModuleType, node, operation: str, path: str, number: int, error: str
) -> None:
    outcome = node.under(faults.Fault(operation, path, number, error))
    assert outcome.happened == 1, outcome
    assert outcome.answered, outcome
    assert outcome.twice == 0, outcome
    faults.wait_for(lambda: node.ready()[0], "the node is ready again")
