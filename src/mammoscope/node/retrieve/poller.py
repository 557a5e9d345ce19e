"""Pulling studies from an archive: `Puller` fetches them one by one, `Poller` has it done at an interval.

Whatever the archive speaks, its objects come to the node as any others do and are known by their `move_originator`: the
node's own title says that it asked for them.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol

import structlog

from mammoscope.errors import MammoscopeError
from mammoscope.logging import where_raised
from mammoscope.network import FoundStudy, PeerUnreachableError, ReceivedObject, Retrieval
from mammoscope.node.events import Origin
from mammoscope.node.retrieve.history import PullLedger

LOOK_BACK = timedelta(days=2)
"""How far before the last poll a poll asks: Study Date is a day of the archive's clock, and studies come late."""
LOOK_AGAIN_SECONDS = 2.0
COMPARE_EVERY_SECONDS = 600.0
"""How often a study is compared instance by instance of which the archive has as many as before."""
MOST_TRIES = 3
"""How often a study is fetched of which something does not come, when nobody says why."""

log = structlog.get_logger(__name__)


class Archive(Protocol):
    """What a puller needs of an archive."""

    @property
    def name(self) -> str:
        """As in the settings."""

    @property
    def failures_last(self) -> bool:
        """Whether what a retrieval could not bring will never come, because the node refuses such objects."""

    def find(self, where: Mapping[str, str], since: date, until: date | None) -> Iterable[FoundStudy]:
        """The studies that match, by Study Date.

        Raises
        ------
        MammoscopeError
            If it cannot be asked.
        """

    def instances(self, study: str) -> frozenset[str]:
        """SOP Instance UIDs of a study's objects there.

        Raises
        ------
        MammoscopeError
            If it cannot be asked.
        """

    def fetch(self, study: str) -> Retrieval:
        """Bring all objects of a study to the node.

        Raises
        ------
        MammoscopeError
            If it broke off.
        """


@dataclass(frozen=True, slots=True)
class Pulled:
    """How the fetching of a study ended.

    Parameters
    ----------
    objects
        How many came.
    refused
        How many did not because the node does not take such objects, tomosynthesis for example.
    error
        Why it is not done and will be tried again; ``None`` when it is done.
    """

    study: str
    objects: int = 0
    refused: int = 0
    error: str | None = None


class Puller:
    """Fetches studies, one at a time, and not while the node has enough to do.

    Parameters
    ----------
    ledger
        What was fetched before is not fetched again, unless the archive has an object by now that it had not then.
    busy
        Why the archive should wait, for example because the node has much to read; ``None`` when it need not.
    known
        SOP Instance UIDs that this node received or made of a study: its results may well lie in the archive too, and
        are no news.
    stopping
        Ends the work after the study under way.
    """

    def __init__(
        self,
        archive: Archive,
        ledger: PullLedger,
        *,
        busy: Callable[[], str | None] = lambda: None,
        known: Callable[[str], Collection[str]] = lambda _: (),
        stopping: threading.Event | None = None,
        look_again_seconds: float = LOOK_AGAIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._compared: dict[str, float] = {}
        self.archive = archive
        self.ledger = ledger
        self.stopping = stopping or threading.Event()
        self._busy = busy
        self._known = known
        self._look_again = look_again_seconds

    def find(self, where: Mapping[str, str], since: date, until: date | None = None) -> list[FoundStudy]:
        """The studies that match and are still to be fetched, by Study Date.

        Raises
        ------
        MammoscopeError
            If the archive cannot be asked.
        """
        news = [study for study in self.archive.find(where, since, until) if self._is_news(study)]
        return sorted(news, key=lambda study: (study.date, study.study_instance_uid))

    def pull(self, studies: Sequence[FoundStudy], on_wait: Callable[[str], None] = lambda _: None) -> Iterator[Pulled]:
        """Fetch studies, and tell of each.

        Parameters
        ----------
        on_wait
            Told why nothing is fetched for now, once each time.

        Raises
        ------
        PeerUnreachableError
            If the archive or the node is gone: to try the other studies is no use.
        """
        for study in studies:
            self._wait(on_wait)
            if self.stopping.is_set():
                return
            yield self._fetch(study)

    def _wait(self, on_wait: Callable[[str], None]) -> None:
        reason = self._busy()
        if reason is None:
            return
        log.info("archive waits", source=self.archive.name, reason=reason)
        on_wait(reason)
        while not self.stopping.wait(self._look_again) and self._busy() is not None:
            pass

    def _is_news(self, study: FoundStudy) -> bool:
        """Whether an object of a study is not here yet: its instances are compared.

        At once where their number has changed. Where it has not, for one may have gone and another come, now and then:
        each comparison is a query.
        """
        uid = study.study_instance_uid
        fetched, seen = self.ledger.fetched(uid), self.ledger.instances(uid)
        if fetched is None:
            return True
        as_many = study.instances is None or study.instances == fetched
        if as_many and (not seen or not self._is_time_to_compare(uid)):
            return False
        there = self._instances(uid)
        if there is None:  # it does not list them: rather once too often
            return study.instances is not None and study.instances > fetched
        if not there <= seen.union(self._known(uid)):
            return True
        if not as_many:
            self.ledger.note_fetched(uid, len(there) if study.instances is None else study.instances, seen)
        return False

    def _is_time_to_compare(self, study: str) -> bool:
        now = self._clock()
        last = self._compared.get(study)
        if last is not None and now - last < COMPARE_EVERY_SECONDS:
            return False
        self._compared[study] = now
        return True

    def _instances(self, study: str) -> frozenset[str] | None:
        """What the archive has of a study; ``None`` if it does not say."""
        try:
            return self.archive.instances(study)
        except PeerUnreachableError:
            raise
        except MammoscopeError as error:
            log.warning("instances not listed", source=self.archive.name, study=study, reason=str(error))
            return None

    def _fetch(self, study: FoundStudy) -> Pulled:
        uid = study.study_instance_uid
        facts: dict[str, str | int] = {"source": self.archive.name, "study": uid}
        there = self._instances(uid)  # before: what comes meanwhile is news again
        try:
            retrieval = self.archive.fetch(uid)
        except PeerUnreachableError:
            raise
        except MammoscopeError as error:
            log.warning("study not fetched", **facts, reason=str(error))
            return Pulled(uid, error=str(error))
        facts |= {"objects": retrieval.completed, "refused": retrieval.failed}
        if not retrieval.complete and not self._given_up(uid, retrieval):
            reason = f"{retrieval.failed} of {retrieval.completed + retrieval.failed} objects did not come"
            log.warning("study not fetched", **facts, reason=reason)
            return Pulled(uid, retrieval.completed, error=reason)
        count = study.instances if study.instances is not None else retrieval.completed + retrieval.failed
        self.ledger.note_fetched(uid, count, there or ())
        log.info("study fetched", **facts)
        return Pulled(uid, retrieval.completed, retrieval.failed)

    def _given_up(self, study: str, retrieval: Retrieval) -> bool:
        """Whether what did not come never will, as far as one can tell."""
        if retrieval.completed == 0:
            # Rather the node, its disk or what was agreed on with the archive than each of the objects.
            return False
        return self.archive.failures_last or self.ledger.note_try(study) >= MOST_TRIES


class Poller:
    """Asks an archive for new studies at an interval, in a thread of its own.

    Parameters
    ----------
    puller
        Its ``stopping`` ends the poller.
    where
        Attributes that a study must match, by keyword.
    today
        The day by the clock.
    """

    def __init__(
        self,
        puller: Puller,
        where: Mapping[str, str],
        every_seconds: float,
        *,
        today: Callable[[], date] = date.today,
    ) -> None:
        self._puller = puller
        self._where = where
        self._every_seconds = every_seconds
        self._today = today
        self._thread = threading.Thread(target=self._run, name=f"poller {puller.archive.name}", daemon=True)

    def start(self) -> None:
        """Poll for the first time now, and then at the interval."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 60.0) -> None:
        """Finish the study under way and poll no more."""
        self._puller.stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def poll(self) -> None:
        """Fetch what is new since the last poll that got everything; of today and the days before at the first.

        Raises
        ------
        MammoscopeError
            If the archive cannot be asked.
        """
        ledger, today = self._puller.ledger, self._today()
        # A clock that once went ahead must not keep us from asking for today.
        since = min(ledger.polled or today, today) - LOOK_BACK
        studies = self._puller.find(self._where, since)
        outcomes = list(self._puller.pull(studies))
        if len(outcomes) == len(studies) and not any(outcome.error for outcome in outcomes) and ledger.polled != today:
            ledger.note_polled(today)

    def _run(self) -> None:
        while not self._puller.stopping.is_set():
            try:
                self.poll()
            except MammoscopeError as error:
                log.warning("archive not polled", source=self._puller.archive.name, reason=str(error))
            except Exception as error:  # a poller that dies is worse than a poll that failed
                log.warning("archive not polled", source=self._puller.archive.name, error=where_raised(error))
            self._puller.stopping.wait(self._every_seconds)


def origin_of(received: ReceivedObject, ae_title: str) -> Origin:
    """Whether an object was sent to us or was pulled, that is, sent because we asked for it (C-MOVE).

    Parameters
    ----------
    ae_title
        Our own.
    """
    return Origin.PULLED if received.move_originator == ae_title else Origin.SENT
