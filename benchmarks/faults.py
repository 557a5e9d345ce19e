"""Each file operation and each write of a database fails once, while the node takes, reads and reports a study.

``python benchmarks/faults.py``: first a study goes through undisturbed while every file operation below the storage
folder is written down; then each kind of operation on each kind of file fails, the first time, the second ..., with no
space, with an input/output error, and by a kill in its place, as SQLite's own tests do it. Databases are kept locked
from outside for longer than SQLite waits, the disk is full for 8 s and for 0.05 s, the node is stopped and let go.

One rule, as of Jepsen's tests: whatever was acknowledged is answered within two minutes by a CAD SR that refers to it,
every mark in its place and no object left out, or it is visibly waiting and ``/readyz`` says so; nothing arrives twice
with two contents.

The whole takes hours. ``--outcomes FILE`` keeps the plan and each outcome, and the same command with the same file goes
on where an earlier one ended; ``--again`` tries those once more that did not hold, by themselves.
"""

import argparse
import itertools
import json
import re
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from fault_injection import CHANGE, ERRORS, Faults
from node_under_test import (
    Arrival,
    CountingDestination,
    NodeProcess,
    SmallMammogram,
    SmallMammograms,
    destination_section,
    free_port,
    send,
    wait_for,
)
from pydicom.uid import MammographyCADSRStorage
from rich.console import Console
from rich.table import Table
from soak import evidence, misplaced_marks

ANSWER_SECONDS = 120.0
ANSWER_MINUTES = 1.0
SQLITE_WAITS_SECONDS = 60.0
RECONCILE_EVERY_SECONDS = 1.0
OFTEN = 12
"""The first, second, ... of a kind of operation that fails; of those that a study needs more often, every n-th."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One operation that fails once.

    Parameters
    ----------
    operation, path
        As of `Faults.arm`.
    number
        Which one of its kind, from 0.
    error
        Name of one of `ERRORS`.
    """

    operation: str
    path: str
    number: int
    error: str

    def __str__(self) -> str:
        return f"{self.error} at {self.operation} {self.number + 1} of {self.path}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a study under a fault.

    Parameters
    ----------
    happened
        How many operations failed.
    answered
        Whether every image that was acknowledged is in a CAD SR at the destination.
    known
        Whether ``/readyz`` told, where it was not answered.
    seconds
        Until it was answered.
    twice
        Objects that the destination got with two contents meanwhile.
    """

    what: str
    happened: int
    answered: bool
    known: bool
    seconds: float
    twice: int

    @property
    def held(self) -> bool:
        return (self.answered or self.known) and not self.twice


class FaultyNode:
    """A node whose file operations fail by order, the modality that sends to it and the destination it sends to."""

    def __init__(self, folder: Path, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._answer_seconds = answer_seconds
        self.destination = CountingDestination(keeps=[MammographyCADSRStorage])
        self.faults = Faults(folder / "faults", folder / "node" / "storage")
        self.web = free_port()
        sections = {
            "node": {"quiet_seconds": 1, "answer_minutes": ANSWER_MINUTES, "free_gigabytes": 0.001},
            "destinations": [destination_section(self.destination.port)],
            "web": {"port": self.web},
        }
        options = ("--operated", "--dead-after", "6", "--reconcile-every", str(RECONCILE_EVERY_SECONDS))
        self.node = NodeProcess(folder / "node", sections, environment=self.faults.environment, options=options)
        self._maker = SmallMammograms(folder / "images", seed=11)
        self._numbers = itertools.count()
        self._with_two_contents = 0

    @contextmanager
    def running(self) -> Iterator["FaultyNode"]:
        """Run both for a while."""
        with self.destination:
            self.start()
            try:
                yield self
            finally:
                self.node.kill()

    def start(self) -> None:
        """Start the node, again after a kill."""
        self.node.start()
        self.node.wait_until_it_listens()

    def ready(self) -> tuple[bool, dict[str, str]]:
        """Whether ``/readyz`` says that all is well, and what each part says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web}/readyz", timeout=90) as answer:
                return True, json.load(answer)["parts"]
        except urllib.error.HTTPError as error:
            return False, json.load(error)["parts"]
        except OSError:
            return False, {}

    def says_so(self) -> bool:
        """Whether ``/readyz`` answers, and that all is not well; silence tells nobody anything."""
        is_ready, parts = self.ready()
        return not is_ready and bool(parts)

    def new_study(self) -> list[SmallMammogram]:
        """Images of one more study, all of them whole."""
        while True:
            study = self._maker.study(next(self._numbers))
            if all(image.box is not None for image in study):
                return study

    def send(self, study: Sequence[SmallMammogram]) -> None:
        """Send images until each is acknowledged, as a modality does; a node that ended is started again."""
        waiting = list(study)
        deadline = time.monotonic() + self._answer_seconds
        while waiting:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(waiting)} images of a study were not acknowledged")
            if not self.node.alive:
                self.start()
            statuses = send([image.file for image in waiting], self.node.port)
            waiting = [image for image, status in zip(waiting, statuses, strict=True) if status != 0x0000]
            if waiting:
                time.sleep(0.3)

    def is_answered(self, study: Sequence[SmallMammogram]) -> bool:
        """Whether a CAD SR at the destination marks what was drawn on every image; a node that ended is started again.

        One that says of an image that it was not processed is no answer: trouble of the machine is no patient's result.
        """
        if not self.node.alive:
            self.start()
        of_study = (a.dataset for a in self.destination.arrivals if a.dataset is not None)
        boxes = {image.uid: image.box for image in study}
        reports = [r for r in of_study if str(r.StudyInstanceUID) == study[0].study]
        return any(boxes.keys() <= set(evidence(report)) and not misplaced_marks(report, boxes) for report in reports)

    def left_out(self, study: Sequence[SmallMammogram]) -> int:
        """How many objects of a study's reports could not be made."""
        return sum(event["study"] == study[0].study for event in self.node.events("result incomplete"))

    def answer(self, what: str, study: Sequence[SmallMammogram], happened: Callable[[], int]) -> Outcome:
        """Wait until a study is answered, and tell how it ended."""
        started, answered = time.monotonic(), True
        try:
            wait_for(lambda: self.is_answered(study), f"answer under {what}", self._answer_seconds)
        except TimeoutError:
            answered = False
        seconds = time.monotonic() - started
        answered = answered and not self.left_out(study)
        known = not answered and self.says_so()
        before, self._with_two_contents = self._with_two_contents, _two_contents(self.destination.arrivals)
        return Outcome(what, happened(), answered, known, seconds, self._with_two_contents - before)

    def under(self, fault: Fault) -> Outcome:
        """Have one operation fail, at whatever it is needed for while a study goes through."""
        study = self.new_study()
        self.faults.arm(fault.operation, ERRORS[fault.error], path=fault.path, let_pass=fault.number)
        self.send(study)
        outcome = self.answer(str(fault), study, lambda: self.faults.failed)
        self.faults.disarm()
        return outcome

    def full_while_reading(self, seconds: float) -> Outcome:
        """Have the disk full for a while as soon as a study is begun to be read."""
        study, before = self.new_study(), len(self.node.events("study quiet"))
        self.send(study)
        wait_for(lambda: len(self.node.events("study quiet")) > before, "the study is begun", look_every=0.005)
        self.faults.arm(CHANGE, ERRORS["ENOSPC"], times=-1)
        time.sleep(seconds)
        failed = self.faults.disarm()
        return self.answer(f"a disk full for {seconds:g} s while reading", study, lambda: failed)

    def full_while_sending(self, seconds: float) -> Outcome:
        """Have the disk full for a while from the first object that the destination gets."""
        study, failed = self.new_study(), []

        def fill(_: str) -> int:
            if not failed:
                failed.append(0)
                self.faults.arm(CHANGE, ERRORS["ENOSPC"], times=-1)
                threading.Timer(seconds, lambda: failed.append(self.faults.disarm())).start()
            return 0x0000

        self.destination.status_for = fill
        self.send(study)
        wait_for(lambda: len(failed) > 1, "the disk was full and is not any more")
        self.destination.status_for = lambda _: 0x0000
        return self.answer(f"a disk full for {seconds:g} s while sending", study, lambda: failed[-1])

    def locked(self, database: str, seconds: float) -> Outcome:
        """Have another program hold a database for a while."""
        study = self.new_study()
        with closing(sqlite3.connect(self.node.storage / database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            sending = threading.Thread(target=self.send, args=(study,))
            sending.start()
            time.sleep(seconds)
            other.execute("ROLLBACK")
        sending.join()
        return self.answer(f"{database} locked for {seconds:g} s", study, lambda: 1)

    def stopped(self, seconds: float) -> Outcome:
        """Stop the process in the middle of a study and let it go."""
        study, before = self.new_study(), len(self.node.events("study quiet"))
        self.send(study)
        wait_for(lambda: len(self.node.events("study quiet")) > before, "the study is begun", look_every=0.005)
        assert self.node.process is not None
        self.node.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.node.process.send_signal(signal.SIGCONT)
        return self.answer(f"the node stopped for {seconds:g} s", study, lambda: 1)

    def trace(self) -> Counter[tuple[str, str]]:
        """How often each kind of operation is done to each kind of file while a study goes through undisturbed."""
        study = self.new_study()
        self.faults.trace(on=True)
        self.send(study)
        wait_for(lambda: self.is_answered(study), "the study is answered")
        time.sleep(1.0)
        done = self.faults.trace(on=False)
        return Counter((operation, kind) for operation, path in done if (kind := kind_of(path)) is not None)


def kind_of(path: str) -> str | None:
    """A part of a path that names its kind: a database's file, or the folder below the storage folder."""
    if re.search(r"\.sqlite(-wal|-shm|-journal)?$", path):
        return path.rpartition("/")[2]
    folder = path.partition("/")[0]
    return None if folder.startswith((".check-", ".lock")) else folder


def _two_contents(arrivals: Sequence[Arrival]) -> int:
    contents: dict[str, set[str]] = {}
    for arrival in arrivals:
        contents.setdefault(arrival.uid, set()).add(arrival.digest)
    return sum(len(digests) > 1 for digests in contents.values())


def every_fault(done: Counter[tuple[str, str]], often: int = OFTEN) -> Iterator[Fault]:
    """Each kind of operation, the first, second, ... of it, with each error."""
    for (operation, path), count in sorted(done.items()):
        if operation in ("open", "read") and path.endswith("-shm"):
            continue
        for number in range(0, count, -(-count // often)):
            for error in ERRORS:
                if error != "ENOSPC" or operation not in ("open", "read", "remove"):
                    yield Fault(operation, path, number, error)


class Progress:
    """The plan of a run and the outcomes so far, in a file of a line of JSON each, or nowhere."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
        entries = [json.loads(line) for line in lines]
        self._faults = [Fault(**fault) for fault in entries[0]["faults"]] if entries else None
        latest = {outcome.what: outcome for outcome in (Outcome(**entry) for entry in entries[1:])}
        self._outcomes = latest

    @property
    def outcomes(self) -> list[Outcome]:
        """The latest outcome of each attempt."""
        return list(self._outcomes.values())

    def faults(self, faulty: FaultyNode, often: int) -> list[Fault]:
        """The faults of the plan, which is made of a study that goes through undisturbed."""
        if self._faults is None:
            self._faults = list(every_fault(faulty.trace(), often))
            self._write({"faults": [asdict(fault) for fault in self._faults]})
        return self._faults

    def wants(self, what: str, *, again: bool) -> bool:
        """Whether an attempt is still to be made."""
        outcome = self._outcomes.get(what)
        return outcome is None if not again else outcome is not None and not outcome.held

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, in place of an earlier one of the same attempt."""
        self._outcomes[outcome.what] = outcome
        self._write(asdict(outcome))

    def _write(self, entry: dict[str, object]) -> None:
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


def every_attempt(faulty: FaultyNode, faults: Sequence[Fault]) -> dict[str, Callable[[], Outcome]]:
    """All that is tried, by what its outcome is called."""
    locked = SQLITE_WAITS_SECONDS + 5
    return {
        "a disk full for 8 s while reading": lambda: faulty.full_while_reading(8.0),
        "a disk full for 0.05 s while sending": lambda: faulty.full_while_sending(0.05),
        "a disk full for 3 s while sending": lambda: faulty.full_while_sending(3.0),
        "the node stopped for 10 s": lambda: faulty.stopped(10.0),
        f"node.sqlite locked for {locked:g} s": lambda: faulty.locked("node.sqlite", locked),
        f"work.sqlite locked for {locked:g} s": lambda: faulty.locked("work.sqlite", locked),
        **{str(fault): (lambda fault=fault: faulty.under(fault)) for fault in faults},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--often", type=int, default=OFTEN, help="of a kind of operation at most so many")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="try no more after so long")
    parser.add_argument("--outcomes", type=Path, default=None, help="keep plan and outcomes here, and go on with them")
    parser.add_argument("--again", action="store_true", help="try those of the outcomes again that did not hold")
    arguments = parser.parse_args()
    if arguments.again and arguments.outcomes is None:
        parser.error("--again needs --outcomes")
    progress = Progress(arguments.outcomes)
    ends = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder, FaultyNode(Path(folder)).running() as faulty:
        attempts = every_attempt(faulty, progress.faults(faulty, arguments.often))
        for what, attempt in attempts.items():
            if time.monotonic() > ends:
                break
            if progress.wants(what, again=arguments.again):
                log_before = len(faulty.node.log_text())
                outcome = _outcome_of(faulty, what, attempt)
                progress.add(outcome)
                _tell(outcome, faulty.node.log_text()[log_before:])
    Console(width=120).print(table(progress.outcomes, len(attempts)))
    return 0 if all(outcome.held for outcome in progress.outcomes) else 1


def _outcome_of(faulty: FaultyNode, what: str, attempt: Callable[[], Outcome]) -> Outcome:
    """Make an attempt; images that are not even acknowledged in all the time are no answer either."""
    started = time.monotonic()
    try:
        return attempt()
    except TimeoutError:
        seconds, known = time.monotonic() - started, faulty.says_so()
        faulty.destination.status_for = lambda _: 0x0000
        return Outcome(what, max(1, faulty.faults.disarm()), answered=False, known=known, seconds=seconds, twice=0)


def _tell(outcome: Outcome, log: str) -> None:
    if not outcome.held or outcome.seconds > 30:
        known = outcome.known
        print(f"{outcome.what}: answered {outcome.answered}, {outcome.seconds:.0f} s, known {known}", flush=True)
    if not outcome.held:
        print(*log.splitlines()[-40:], sep="\n", flush=True)


def table(outcomes: Sequence[Outcome], planned: int) -> Table:
    rows = Table("what", "how many", title="Faults")
    happened = [outcome for outcome in outcomes if outcome.happened]
    slowest = max(happened, key=lambda outcome: outcome.seconds)
    for what, count in (
        ("planned", planned),
        ("tried", len(outcomes)),
        ("of these, the fault came to pass", len(happened)),
        ("answered", sum(outcome.answered for outcome in happened)),
        ("waiting, and /readyz knows", sum(outcome.known for outcome in happened)),
        ("neither", sum(not (outcome.answered or outcome.known) for outcome in happened)),
        ("objects at the destination with two contents", sum(outcome.twice for outcome in outcomes)),
        ("slowest answer, seconds", f"{slowest.seconds:.0f} ({slowest.what})"),
    ):
        rows.add_row(what, str(count))
    return rows


if __name__ == "__main__":
    sys.exit(main())
