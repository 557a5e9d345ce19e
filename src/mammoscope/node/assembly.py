"""`StudyTracker`: when a study is complete enough to be read."""

import threading
import time
from collections.abc import Callable


class StudyTracker:
    """Waits until a study was quiet for a set time.

    Nothing in DICOM says that a study is complete, so silence must do. Safe to use from several threads.

    Parameters
    ----------
    quiet_seconds
        How long after its last image a study is read.
    clock
        Seconds that never go back.
    """

    def __init__(self, quiet_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()

    def image_arrived(self, study: str) -> None:
        """Start, or start again, a study's quiet period."""
        self.postpone(study, self._quiet_seconds)

    def postpone(self, study: str, seconds: float) -> None:
        """Have a study taken no sooner than that many seconds from now."""
        with self._lock:
            self._due[study] = self._clock() + seconds

    def take_next(self) -> str | None:
        """Take out the study that has been due longest; ``None`` when none is due."""
        with self._lock:
            study = min(self._due, key=self._due.__getitem__, default=None)
            if study is None or self._due[study] > self._clock():
                return None
            del self._due[study]
            return study

    def seconds_until_next(self) -> float | None:
        """Seconds until a study is due, 0 when one is, ``None`` when there is none."""
        with self._lock:
            if not self._due:
                return None
            return max(0.0, min(self._due.values()) - self._clock())
