"""`Scheduler`: what is due, handed out as durable work in good order."""

import math
import threading
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from mammoscope.node.db.engine import where_and_why
from mammoscope.node.db.repository import DeliveryOrder, ReadingOrder, Records, StudyState
from mammoscope.node.events import Origin
from mammoscope.node.jobs import deliver_report, read_study
from mammoscope.node.jobs.queue import DurableWork
from mammoscope.node.jobs.study_completion import StudyTracker

READING_QUEUE = "read"
ORPHANS_QUEUE = "send to no one"
"""For destinations that were taken out of the settings: their deliveries are parked."""
LOOK_EVERY_SECONDS = 1.0
RECONCILE_EVERY_SECONDS = 10.0
TIDY_EVERY_SECONDS = 60.0
STANDSTILL_SECONDS = 60.0
TROUBLE_WAIT_SECONDS = 2.0
AHEAD = 2
"""How many studies wait in the queue for each that we can read at once: few, so that a later one may go first."""

SOON, LATER = 1, 10
"""Priorities of work: studies just received before an archive."""

log = structlog.get_logger(__name__)


def sending_queue(destination: str) -> str:
    """The queue of a destination's own, so that one that is slow or down keeps back no other."""
    return f"send {destination}"


class Scheduler:
    """A thread that looks into the records every second, and when it is woken.

    Whatever is due is enqueued under a name that follows from it, so that it is done once, however many workers look.
    Every few seconds the records, the durable work and what is under way are reconciled: work that ended by an error is
    begun anew, and so is work that is noted as in hand and in nobody's.

    Parameters
    ----------
    at_once
        How many studies this worker reads at once.
    is_complete
        Whether a study has all the views that are expected, so that it need not be quiet.
    destinations
        Names of those in the settings.
    may_send
        Whether a delivery may be made now.
    tidy
        Called once a minute.
    reconcile_every_seconds
        How often to reconcile.
    """

    def __init__(
        self,
        work: DurableWork,
        records: Records,
        tracker: StudyTracker,
        *,
        at_once: int,
        is_complete: Callable[[str], bool],
        destinations: Collection[str],
        may_send: Callable[[DeliveryOrder], bool],
        tidy: Callable[[], None],
        reconcile_every_seconds: float = RECONCILE_EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._records = records
        self._tracker = tracker
        self._at_once = at_once
        self._is_complete = is_complete
        self._destinations = frozenset(destinations)
        self._may_send = may_send
        self._tidy = tidy
        self._reconcile_every = reconcile_every_seconds
        self._clock = clock
        self._enqueued: set[tuple[object, ...]] = set()
        self._next_tries: dict[tuple[object, ...], float] = {}
        self._next_tidying = self._next_reconciling = 0.0
        self._looked_at = clock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    @property
    def trouble(self) -> str | None:
        """Why nothing is handed out, in one sentence; ``None`` while it is."""
        silent = self._clock() - self._looked_at
        if silent < STANDSTILL_SECONDS:
            return None
        return (
            f"nothing was handed out to be read or sent for {silent:.0f} s: see 'scheduler failed' in the log; a full"
            " disk and a database that is away are the likely causes"
        )

    def look(self) -> None:
        """Hand out what is due."""
        if self._clock() >= self._next_reconciling:
            self._next_reconciling = self._clock() + self._reconcile_every
            self._reconcile()
        if self._clock() >= self._next_tidying:
            self._next_tidying = self._clock() + TIDY_EVERY_SECONDS
            self._tidy()
        self._hand_out_studies()
        self._hand_out_deliveries()
        self._looked_at = self._clock()

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait = LOOK_EVERY_SECONDS
            try:
                self.look()
                wait = min(wait, self._tracker.seconds_until_next() or wait)
            except Exception as error:  # the database is away: what is due stays due
                log.warning("scheduler failed", error=where_and_why(error))
                wait = TROUBLE_WAIT_SECONDS
            self._wake.wait(wait)
            self._wake.clear()

    def _reconcile(self) -> None:
        # What is enqueued again under a name that is not over is enqueued once; what ended by an error begins anew.
        self._work.sweep()
        self._enqueued.clear()
        if strays := self._work.resume_strays():
            log.warning("work in nobody's hand begun anew", pieces=strays)

    def _hand_out_studies(self) -> None:
        orders = self._records.studies_to_read()
        self._tracker.forget_all_but([order.study for order in orders])
        for order in orders:
            if self._tracker.has_news(order.study, order.arrivals):
                self._notice(order)
        due = [order for order in orders if self._tracker.is_due(order.study)]
        due.sort(key=lambda order: not (order.waiting and self._tracker.is_overdue(order.study)))
        in_hand = [order for order in due if order.state is StudyState.READING]
        waiting = [order for order in due if order.state is not StudyState.READING]
        for order in [*in_hand, *waiting[: self._at_once * AHEAD]]:
            key = (order.study, order.attempt)
            if key not in self._enqueued:
                self._work.enqueue(
                    READING_QUEUE,
                    read_study.KIND,
                    f"read {order.study} {order.attempt}",
                    order.study,
                    order.attempt,
                    priority=_priority(order),
                )
                self._enqueued.add(key)

    def _notice(self, order: ReadingOrder) -> None:
        # After its first report a late view may bring others: then it is silence that tells.
        is_first = order.waiting == order.received
        at_once = not order.waiting or (is_first and self._is_complete(order.study))
        age = (datetime.now(UTC) - order.last_received_at).total_seconds()
        self._tracker.notice(order.study, order.arrivals, at_once=at_once, age_seconds=age)

    def _hand_out_deliveries(self) -> None:
        orders = [order for order in self._records.deliveries_to_make() if self._may_send(order)]
        tries = {(o.study, o.number, o.destination, o.round, o.tries): o for o in orders}
        _keep_only(self._next_tries, tries)
        for key, order in tries.items():
            # The sooner of then and now: a wait may be cut short, and no leap of the clock makes it longer.
            self._next_tries[key] = min(self._next_tries.get(key, math.inf), self._time_of(order))
            if key in self._enqueued or self._clock() < self._next_tries[key]:
                continue
            self._work.enqueue(
                sending_queue(order.destination) if order.destination in self._destinations else ORPHANS_QUEUE,
                deliver_report.KIND,
                f"send {' '.join(str(part) for part in key)}",
                *key,
                str(order.origin),
                priority=_priority(order),
            )
            self._enqueued.add(key)

    def _time_of(self, order: DeliveryOrder) -> float:
        """When to try, by our own clock: never further off than the longest wait, whatever the wall clock says."""
        if order.next_try_at is None:
            return self._clock()
        wait = (order.next_try_at - datetime.now(UTC)).total_seconds()
        return self._clock() + min(max(wait, 0.0), deliver_report.wait_after(order.tries))


_Key = TypeVar("_Key")


def _keep_only(times: dict[_Key, float], wanted: Collection[_Key]) -> None:
    for key in times.keys() - set(wanted):
        del times[key]


def _priority(order: ReadingOrder | DeliveryOrder) -> int:
    return LATER if order.origin is Origin.PULLED else SOON
