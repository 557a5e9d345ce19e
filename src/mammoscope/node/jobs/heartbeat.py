"""`Heartbeat`: says that we live, and takes over the work of those who died."""

import os
import socket
import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from mammoscope.node.db.engine import where_and_why
from mammoscope.node.db.repository import Records, WorkerRecord
from mammoscope.node.jobs.queue import DurableWork

BEAT_EVERY_SECONDS = 5.0
DEAD_AFTER_SECONDS = 30.0

log = structlog.get_logger(__name__)


class Heartbeat:
    """A thread that beats, and watches the others' beats.

    A worker is dead when its count of beats stood still for so long by our own clock: no clock of another machine is
    believed. Its work then goes back to the queues.

    Parameters
    ----------
    dead_after_seconds
        Several times ``beat_every_seconds``.
    """

    def __init__(
        self,
        work: DurableWork,
        records: Records,
        *,
        beat_every_seconds: float = BEAT_EVERY_SECONDS,
        dead_after_seconds: float = DEAD_AFTER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._records = records
        self._beat_every = beat_every_seconds
        self._dead_after = dead_after_seconds
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}
        self._unknown_since: dict[str, float] = {}
        self._kept_at = clock()
        self._beat_at: float | None = None
        self._losses = 0
        self._beating = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self.keep()
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; whatever is left of our work is taken over in time."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def keep(self) -> None:
        """Beat once, and look once who died."""
        if self._clock() - self._kept_at > self._dead_after / 2:
            # We were asleep, or the database was away: who stood still meanwhile need not be dead.
            self._seen.clear()
            self._unknown_since.clear()
        self._beat()
        others = [worker for worker in self._records.workers() if worker.name != self._work.worker]
        for worker in others:
            if self._is_dead(worker):
                self._declare_dead(worker)
        self._seen = {worker.name: self._seen[worker.name] for worker in others if worker.name in self._seen}
        self._take_from_the_unknown({worker.name for worker in others})
        self._kept_at = self._clock()

    def claim(self) -> Callable[[], bool]:
        """Begin work that is ours alone; what is given says whether it still is.

        It is no longer once another worker found us dead and took the work over, however short the time since we woke:
        after a silence of half of what it takes to be found dead, the records are asked first. Without an answer of the
        database the work is taken for lost.
        """
        losses = self._losses

        def is_ours() -> bool:
            if self._beat_at is None or self._clock() - self._beat_at > self._dead_after / 2:
                try:
                    self._beat()
                except SQLAlchemyError as error:
                    log.warning("heartbeat failed", error=where_and_why(error))
                    return False
            return self._losses == losses

        return is_ours

    def _beat(self) -> None:
        with self._beating:
            was_there = self._records.beat(self._work.worker, socket.gethostname(), os.getpid())
            if self._beat_at is not None and not was_there:
                self._losses += 1
                log.warning("work was taken over while this worker was silent", worker=self._work.worker)
            self._beat_at = self._clock()

    def _is_dead(self, worker: WorkerRecord) -> bool:
        beats, since = self._seen.get(worker.name, (None, 0.0))
        if beats != worker.beats:
            self._seen[worker.name] = (worker.beats, self._clock())
            return False
        return self._clock() - since >= self._dead_after

    def _declare_dead(self, worker: WorkerRecord) -> None:
        def take_over() -> None:
            count = self._work.take_over(worker.name)
            log.warning("work of a dead worker taken over", worker=worker.name, pieces=count)

        self._records.declare_dead(worker.name, worker.beats, take_over)
        # It may live after all; its count then begins anew, and what was seen of it before says nothing about it.
        del self._seen[worker.name]

    def _take_from_the_unknown(self, others: set[str]) -> None:
        """Take over from those who have work in hand and are in no record.

        Such a one was found dead, began more work all the same, and died before its next beat.
        """
        now = self._clock()
        unknown = self._work.holders() - others - {self._work.worker}
        self._unknown_since = {name: self._unknown_since.get(name, now) for name in unknown}
        for name, since in list(self._unknown_since.items()):
            if now - since >= self._dead_after:
                count = self._work.take_over(name)
                log.warning("work of a dead worker taken over", worker=name, pieces=count)
                del self._unknown_since[name]

    def _run(self) -> None:
        while not self._stopping.wait(self._beat_every):
            try:
                self.keep()
            except Exception as error:  # the database is away; so are the others' beats
                log.warning("heartbeat failed", error=where_and_why(error))
