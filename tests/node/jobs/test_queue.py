import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dbos
import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from mammoscope.network import ServiceError
from mammoscope.node.jobs import queue
from mammoscope.node.jobs.queue import DurableWork

DIES_IN_ITS_SECOND_STEP = """
import os, sys, threading
from pathlib import Path
from mammoscope.node.jobs.queue import DurableWork

folder, dies = Path(sys.argv[1]), sys.argv[2] == "dies"
work = DurableWork("node", folder)
over = threading.Event()

def note(line):
    with (folder / "notes").open("a") as file:
        file.write(line + "\\n")
    return line

def second():
    if dies:
        os._exit(9)
    return note("second")

def two_steps(name):
    first = work.step("first", lambda: note("first"))
    note(f"{first} then {work.step('second', second)} of {name}")
    over.set()

work.define("two steps", two_steps)
work.start({"queue": 1})
if dies:
    work.enqueue("queue", "two steps", "a name", "the study")
over.wait(60)
work.stop(60)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., DurableWork]]:
    """Start work of one kind; it ends with the test."""
    started: list[DurableWork] = []

    def start(work_on: Callable[..., None], at_once: int = 1) -> DurableWork:
        work = DurableWork("node", tmp_path)
        work.define("kind", work_on)
        work.start({"queue": at_once})
        started.append(work)
        return work

    yield start
    for work in started:
        work.stop(60)


def test_after_a_kill_the_steps_that_were_done_are_not_done_again(tmp_path: Path) -> None:
    def run(how: str) -> int:
        command = [sys.executable, "-c", DIES_IN_ITS_SECOND_STEP, str(tmp_path), how]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(command, env=environment, check=False, timeout=170).returncode

    assert run("dies") == 9
    assert (tmp_path / "notes").read_text() == "first\n"
    assert run("lives") == 0
    assert (tmp_path / "notes").read_text().splitlines() == ["first", "second", "first then second of the study"]


def test_what_has_one_name_is_done_once_until_it_is_swept(start, wait_until) -> None:
    done: list[str] = []
    work = start(done.append)
    for _ in range(2):
        work.enqueue("queue", "kind", "a", "a")
    work.enqueue("queue", "kind", "b", "b")
    wait_until(lambda: "b" in done)
    assert done == ["a", "b"]
    swept: list[int] = []
    wait_until(lambda: swept.append(work.sweep()) or sum(swept) == 2)
    work.enqueue("queue", "kind", "a", "a")
    wait_until(lambda: done == ["a", "b", "a"])


def test_what_matters_more_goes_first(start, wait_until) -> None:
    done: list[str] = []
    go_on = threading.Event()

    def do(name: str) -> None:
        go_on.wait(60)
        done.append(name)

    work = start(do)
    work.enqueue("queue", "kind", "first", "first", priority=1)
    time.sleep(1)  # until it is begun; should it not be, the order is the same
    work.enqueue("queue", "kind", "archive", "archive", priority=10)
    work.enqueue("queue", "kind", "fresh", "fresh", priority=1)
    go_on.set()
    wait_until(lambda: len(done) == 3)
    assert done == ["first", "fresh", "archive"]


def test_an_error_is_told_in_the_log_without_its_words(start, wait_until, capfd: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []

    def fail(name: str) -> None:
        done.append(name)
        raise ValueError("a patient's name")

    work = start(fail)
    work.enqueue("queue", "kind", "a", "a")
    wait_until(lambda: done == ["a"])
    wait_until(lambda: work.sweep() == 1)
    written = "".join(capfd.readouterr())
    assert "work queue in trouble" in written
    assert "ValueError" in written
    assert "a patient's name" not in written


def test_what_ended_where_nobody_could_write_it_down_is_begun_anew(
    start, wait_until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is full for a moment; before, it was in nobody's hand until the next start."""
    done: list[str] = []
    go_on = threading.Event()

    def do(name: str) -> None:
        done.append(name)
        if name == "long":
            go_on.wait(60)

    work = start(do, at_once=2)
    monkeypatch.setattr(queue, "STRAY_SECONDS", 0.5)
    work.enqueue("queue", "kind", "long", "long")
    wait_until(lambda: done == ["long"])
    system = type(dbos._dbos._get_dbos_instance()._sys_db)
    with monkeypatch.context() as full:
        full.setattr(system, "update_workflow_outcome", disk_is_full)
        work.enqueue("queue", "kind", "a", "a")
        wait_until(lambda: "a" in done)
        wait_until(lambda: not work._in_hand["1 a"])
    assert work.resume_strays() == 0  # it may have been taken from its queue a moment ago
    time.sleep(0.6)
    assert work.resume_strays() == 1
    wait_until(lambda: done == ["long", "a", "a"])
    swept: list[int] = []
    wait_until(lambda: swept.append(work.sweep()) or sum(swept) == 1)
    assert work.resume_strays() == 0
    assert work.holders() == {"node"}
    go_on.set()
    wait_until(lambda: not work.holders())


def disk_is_full(*_: object, **__: object) -> bool:
    raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database or disk is full"))


def test_a_trouble_that_goes_on_is_told_once_a_minute_with_how_often_it_was() -> None:
    """A PostgreSQL server that is away made 35 lines a second."""
    now = [100.0]
    handler = queue._WithoutWords(logging.WARNING, clock=lambda: now[0])
    here, there = (logging.LogRecord("dbos", logging.WARNING, f"/x/{m}.py", 7, "words", (), None) for m in "ab")
    with capture_logs() as logs:
        for _ in range(100):
            handler.handle(here)
        handler.handle(there)
        now[0] += 60
        handler.handle(here)
    assert [(line["where"], line["times"]) for line in logs] == [("a line 7", 1), ("b line 7", 1), ("a line 7", 100)]


def test_one_process_works_once_at_a_time(start, tmp_path: Path) -> None:
    start(lambda _: None)
    second = DurableWork("other", tmp_path)
    with pytest.raises(ServiceError, match="runs in this process already"):
        second.start({"queue": 1})


def test_a_queue_that_cannot_be_used_is_told_and_can_be_used_later(tmp_path: Path) -> None:
    (tmp_path / "work.sqlite").mkdir()
    work = DurableWork("node", tmp_path)
    with pytest.raises(
        ServiceError,
        match=r"the queue of work .*work\.sqlite cannot be used \(unable to open database file; give this account",
    ):
        work.start({"queue": 1})
    (tmp_path / "work.sqlite").rmdir()
    work.start({"queue": 1})
    work.stop(60)
