"""`DurableWork`: steps that a crash does not undo, and a queue of work that several workers share, on dbos.

dbos carries who does what and which steps are done. What is due, and when, the node's own records say: a wait in dbos
holds a thread, and is by the wall clock.
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from mammoscope.logging import where_raised
from mammoscope.network import ServiceError
from mammoscope.node.db.engine import dialect_url, in_words, replace_broken_connections, where_and_why

SQLITE_FILE = "work.sqlite"
SCHEMA = "mammoscope_work"
STEPS_VERSION = "1"
"""Of the steps: work begun by other steps is begun anew instead of resumed."""
POLL_SECONDS = 0.25
SWEEP_AT_ONCE = 1000
SAY_AGAIN_SECONDS = 60.0
STRAY_SECONDS = 5.0
"""Work that is written down as ours and in no hand for so long is in nobody's; it takes some moments to begin it."""

_OVER = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]

log = structlog.get_logger(__name__)

_one_at_a_time = threading.Lock()


class DurableWork:
    """The work of one worker: what it can do, and what it and the others are to do.

    dbos is one for a process, so only one of these runs in it at a time.

    Parameters
    ----------
    worker
        Our name, no other worker's. Work that it left undone is resumed when one of the same name starts.
    storage
        Folder for the SQLite file, where there is no ``database``.
    database
        As in the settings.
    """

    def __init__(self, worker: str, storage: Path, database: str | None = None) -> None:
        self.worker = worker
        self._storage = storage
        self._database = database
        self._kinds: dict[str, Callable[..., None]] = {}
        self._registered: dict[str, Callable[..., None]] = {}
        self._steps: dict[str, Callable[..., Any]] = {}
        self._in_hand: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._loose_since: dict[str, float] = {}

    def define(self, kind: str, work: Callable[..., None]) -> None:
        """Say what is done for a kind of work, before the start.

        ``work`` runs in a thread of its own. It is run again from its beginning after a crash, and its finished steps
        give again what they gave: between its steps it must do nothing that matters and decide by their outcomes only.
        """
        self._kinds[kind] = work

    def step(self, name: str, action: Callable[[], Any]) -> Any:
        """Do one step of the work that this thread is on, or give again what it gave before a crash.

        What it gives is kept in the database: plain types without patients' data. It must raise nothing.
        """
        return DBOS.run_step({"name": name}, action)

    def start(self, queues: Mapping[str, int]) -> None:
        """Resume what was left undone, and begin.

        Parameters
        ----------
        queues
            By name, how many pieces of work are done at once by each worker.

        Raises
        ------
        ServiceError
            If this process works already, or the database cannot be used.
        """
        if not _one_at_a_time.acquire(blocking=False):
            raise ServiceError("a node runs in this process already; start another in a process of its own")
        try:
            _quieten()
            DBOS(config=self._config())
            self._registered = {kind: self._register(kind, work) for kind, work in self._kinds.items()}
            DBOS.listen_queues(list(queues))
            DBOS.launch()
            for name, at_once in queues.items():
                DBOS.register_queue(
                    name, worker_concurrency=at_once, polling_interval_sec=POLL_SECONDS, on_conflict="always_update"
                )
        except Exception as error:
            DBOS.destroy(destroy_registry=True)
            _one_at_a_time.release()
            why = in_words(error) if isinstance(error, SQLAlchemyError) else where_raised(error)
            raise ServiceError(f"the queue of work {self._where} cannot be used ({why})") from error

    @property
    def _where(self) -> str:
        return str(self._storage / SQLITE_FILE) if self._database is None else "in the database"

    def stop(self, timeout_seconds: float) -> None:
        """Wait a while for what is under way, and end; what is not done by then is resumed at the next start."""
        with self._changed:
            self._changed.wait_for(lambda: not self._in_hand, timeout_seconds)
        DBOS.destroy(destroy_registry=True)
        _one_at_a_time.release()

    def enqueue(self, queue: str, kind: str, name: str, *facts: Any, priority: int = 1) -> None:
        """Have a piece of work done by some worker. Of a name that is there already it is done once.

        Parameters
        ----------
        facts
            What the work is called with: plain types without patients' data.
        priority
            What has a lower one is begun first.
        """
        with SetWorkflowID(f"{STEPS_VERSION} {name}"), SetEnqueueOptions(priority=priority):
            DBOS.enqueue_workflow(queue, self._registered[kind], *facts)

    def take_over(self, worker: str) -> int:
        """Give what a dead worker had under way to those who live; return how much it was."""
        return self._give_back((work.workflow_id, work.queue_name) for work in _taken() if work.executor_id == worker)

    def holders(self) -> frozenset[str]:
        """Names of the workers that are written down as having work in hand."""
        return frozenset(work.executor_id for work in _taken() if work.executor_id is not None)

    def resume_strays(self) -> int:
        """Give back to the queues what is written down as in our hand and is not; return how much it was.

        A database that does not take a note for a moment (its disk is full, say) leaves such work behind: it ended, or
        was never begun, and nobody could write that down.
        """
        ours = {work.workflow_id: work.queue_name for work in _taken() if work.executor_id == self.worker}
        now = time.monotonic()
        with self._changed:
            loose = [name for name in ours if name not in self._in_hand]
        self._loose_since = {name: self._loose_since.get(name, now) for name in loose}
        strays = [name for name, since in self._loose_since.items() if now - since >= STRAY_SECONDS]
        return self._give_back((name, ours[name]) for name in strays)

    def _give_back(self, works: Iterable[tuple[str, str | None]]) -> int:
        by_queue: dict[str | None, list[str]] = {}
        for name, queue in works:
            by_queue.setdefault(queue, []).append(name)
        for queue, names in by_queue.items():
            DBOS.resume_workflows(names, queue_name=queue)
        return sum(map(len, by_queue.values()))

    def sweep(self) -> int:
        """Forget work that is over; return how much it was.

        A name that is forgotten may be enqueued again, which begins anew what ended by an error of the database.
        """
        over = DBOS.list_workflows(status=_OVER, load_input=False, load_output=False, limit=SWEEP_AT_ONCE)
        if over:
            DBOS.delete_workflows([workflow.workflow_id for workflow in over])
        return len(over)

    def _register(self, kind: str, work: Callable[..., None]) -> Callable[..., None]:
        def run(*facts: Any) -> None:
            with self._noted_in_hand():
                work(*facts)

        run.__qualname__ = kind
        # However often a worker died on it: who gives up, and with what answer, the records decide.
        return DBOS.workflow(name=kind, max_recovery_attempts=None)(run)

    @contextmanager
    def _noted_in_hand(self) -> Iterator[None]:
        name = str(DBOS.workflow_id)
        with self._changed:
            self._in_hand[name] += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_hand -= Counter((name,))
                self._changed.notify_all()

    def _config(self) -> DBOSConfig:
        config: DBOSConfig = {
            "name": "mammoscope",
            "executor_id": self.worker,
            "application_version": STEPS_VERSION,
            "enable_otlp": False,
            "log_level": "WARNING",
            "dbos_system_schema": SCHEMA,
            "use_listen_notify": False,
        }
        if self._database is None:
            config["system_database_url"] = f"sqlite:///{self._storage / SQLITE_FILE}"
            config["system_database_engine"] = _sqlite(self._storage / SQLITE_FILE)
        else:
            config["system_database_url"] = dialect_url(self._database)
        return config


def _taken() -> list[WorkflowStatus]:
    """What was taken from its queue and is not noted as over."""
    return DBOS.list_workflows(status="PENDING", load_input=False, load_output=False, limit=None)


def _sqlite(file: Path) -> sa.Engine:
    """An engine such as dbos makes, with commits that are on the disk when they return and readers that never wait."""
    engine = sa.create_engine(f"sqlite:///{file}")

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        connection.isolation_level = "IMMEDIATE"
        connection.execute("PRAGMA busy_timeout=60000")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    replace_broken_connections(engine)
    return engine


class _WithoutWords(logging.Handler):
    """Says in the node's log that and where dbos is in trouble. Its words may quote what a step raised.

    A database that is away gives some thirty records a second: the same is said once a minute, with how often it was.
    """

    def __init__(self, level: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(level)
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        where = where_and_why(error) if error else f"{record.module} line {record.lineno}"
        now = self._clock()
        said_at, times = self._said.get(where, (-math.inf, 0))
        if now - said_at < SAY_AGAIN_SECONDS:
            self._said[where] = (said_at, times + 1)
            return
        self._said[where] = (now, 0)
        log.warning("work queue in trouble", level=record.levelname.lower(), where=where, times=times + 1)


def _quieten() -> None:
    logger = logging.getLogger("dbos")
    logger.propagate = False
    logger.handlers = [_WithoutWords(logging.WARNING)]
