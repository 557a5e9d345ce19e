"""`StudyTracker`: when a study is complete enough to be read, and when it must be answered."""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(slots=True)
class _Wait:
    arrivals: int
    since: float
    due: float
    answer_by: float


class StudyTracker:
    """Waits until a study is complete, or was quiet for a set time.

    Nothing in DICOM says that a study is complete, so silence must do where it is not known what to expect. All times
    are counted by a clock that never goes back, from when this process noticed: however far the clock on the wall
    leaps, a study waits no longer than it should. Safe to use from several threads.

    Parameters
    ----------
    quiet_seconds
        How long after its last image a study is read.
    answer_seconds
        How long after its last image, or after our start, it is overdue.
    clock
        Seconds that never go back.
    """

    def __init__(
        self, quiet_seconds: float, answer_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quiet_seconds = quiet_seconds
        self._answer_seconds = answer_seconds
        self._clock = clock
        self._waits: dict[str, _Wait] = {}
        self._lock = threading.Lock()

    def has_news(self, study: str, arrivals: int) -> bool:
        """Whether something arrived for a study since it was last `noticed`."""
        with self._lock:
            wait = self._waits.get(study)
            return wait is None or wait.arrivals != arrivals

    def notice(self, study: str, arrivals: int, *, at_once: bool = False, age_seconds: float = 0.0) -> None:
        """Start, or start again, a study's quiet period.

        Parameters
        ----------
        arrivals
            Anything that changes with every arrival.
        at_once
            Whether it need not be quiet.
        age_seconds
            How long ago its last image arrived, by the wall clock: believed only of a study that we had not seen, and
            only where it is within the quiet period.
        """
        with self._lock:
            now = self._clock()
            known = study in self._waits
            age = 0.0 if known else min(max(age_seconds, 0.0), self._quiet_seconds)
            due = now if at_once else now + self._quiet_seconds - age
            self._waits[study] = _Wait(arrivals, now - age, due, now + self._answer_seconds)

    def postpone(self, study: str, seconds: float) -> None:
        """Have a study not due before so many seconds from now."""
        with self._lock:
            if study in self._waits:
                self._waits[study].due = self._clock() + seconds

    def is_due(self, study: str) -> bool:
        """Whether it is time to read a study."""
        with self._lock:
            return study in self._waits and self._waits[study].due <= self._clock()

    def is_overdue(self, study: str) -> bool:
        """Whether a study should have been answered by now."""
        with self._lock:
            return study in self._waits and self._waits[study].answer_by <= self._clock()

    def seconds_since_last_image(self, study: str) -> float:
        """How long a study has waited; 0 for one that was not noticed."""
        with self._lock:
            wait = self._waits.get(study)
            return 0.0 if wait is None else self._clock() - wait.since

    def seconds_until_next(self) -> float | None:
        """Seconds until one more study is due; ``None`` when all are due or there is none."""
        with self._lock:
            now = self._clock()
            return min((wait.due - now for wait in self._waits.values() if wait.due > now), default=None)

    def forget_all_but(self, studies: Collection[str]) -> None:
        """Forget studies that are not waited for any more."""
        with self._lock:
            for study in self._waits.keys() - set(studies):
                del self._waits[study]
