"""`DiskGuard`: takes nothing more while the disk is nearly full, and takes again by itself when there is room."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

LOOK_EVERY_SECONDS = 1.0
RESUME_FACTOR = 1.25

log = structlog.get_logger(__name__)


class DiskGuard:
    """Says whether there is room for one more object on the file system of a folder.

    It answers from memory and looks at the disk once a second at most, so it may be asked for every object; what is
    told by `wrote` in between counts. Safe to use from several threads.

    Parameters
    ----------
    folder
        On the file system that is watched. Where it cannot be looked at, there is no room.
    free_bytes
        With less than that free there is no room...
    resume_bytes
        ... until that much is free again, so that a disk at the limit is not opened for each object that is deleted; a
        quarter above ``free_bytes`` by default.
    measure
        Bytes free on the file system of a folder.
    clock
        Seconds that never go back.

    Raises
    ------
    ValueError
        If ``resume_bytes`` is below ``free_bytes``.
    """

    def __init__(
        self,
        folder: Path,
        free_bytes: int,
        resume_bytes: int | None = None,
        *,
        measure: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        resume_bytes = int(free_bytes * RESUME_FACTOR) if resume_bytes is None else resume_bytes
        if resume_bytes < free_bytes:
            raise ValueError(f"a guard that closes below {free_bytes} bytes cannot open at {resume_bytes}")
        self._folder = folder
        self._free_bytes = free_bytes
        self._resume_bytes = resume_bytes
        self._measure = measure
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._free = 0
        self._closed = False

    def has_room(self) -> bool:
        """Whether one more object may be taken."""
        with self._lock:
            now = self._clock()
            if self._looked_at is None or now - self._looked_at >= LOOK_EVERY_SECONDS:
                self._looked_at = now
                self._free = self._look()
            closed = self._free < (self._resume_bytes if self._closed else self._free_bytes)
            if closed is not self._closed:
                self._closed = closed
                self._tell()
            return not closed

    def wrote(self, size: int) -> None:
        """Count so many bytes as gone until the disk is looked at again."""
        with self._lock:
            self._free -= size

    @property
    def refusal(self) -> str:
        """Why nothing is taken while there is no room, in one sentence, as a sender may be told."""
        return f"the disk is nearly full: less than {self._free_bytes / 1e9:.3g} GB are free; it is taken again later"

    def _look(self) -> int:
        try:
            return self._measure(self._folder)
        except OSError as error:
            log.warning("disk not measured", reason=error.strerror)
            return -1  # below every limit, 0 included

    def _tell(self) -> None:
        facts = {"free_gigabytes": round(self._free / 1e9, 3), "takes_again_gigabytes": self._resume_bytes / 1e9}
        if self._closed:
            log.error("disk nearly full, nothing is taken", **facts)
        else:
            log.info("disk has room again", **facts)
