"""`Audit`: the listener that writes the audit trail, and the thread that passes it on to a collector."""

import json
import queue
import threading
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from mammoscope.lifecycle import Running
from mammoscope.network import NetworkError
from mammoscope.network.syslog import SyslogClient
from mammoscope.node.audit.atna import Source, audit_message
from mammoscope.node.audit.trail import AuditTrail, Position
from mammoscope.node.events import Event, Origin
from mammoscope.node.storage.durable_files import write_whole
from mammoscope.untrusted_text import cleaned

MOST_WAITING = 100_000
"""Events that are kept in memory while the disk takes none."""
TRY_AGAIN_SECONDS = 5.0
_BATCH = 256

log = structlog.get_logger(__name__)


class Audit(Running):
    """Writes each event to the trail, without holding up where it happened.

    Events are written and synced by a thread of their own, those that wait together by one sync. While the disk takes
    none they wait in memory; should they become too many, the trail says how many it lacks. A phantom's round is no
    business of a patient and left out.

    Parameters
    ----------
    trail
        Where to write.
    """

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue(MOST_WAITING)
        self._lacking = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self.is_writing = True
        """Whether the last try to write succeeded."""

    def __call__(self, event: Event) -> None:
        """Have an event written."""
        if getattr(event, "origin", None) is Origin.PHANTOM:
            return
        try:
            self._waiting.put_nowait(audit_line(event))
        except queue.Full:
            self._lacking += 1

    def start(self) -> None:
        """Start to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end; what the disk does not take now is told in the log and lost."""
        self._stopping.set()
        self._thread.join()
        if not self._waiting.empty():
            log.error("audit lines lost", lines=self._waiting.qsize())

    def _write_all(self) -> None:
        batch: list[dict[str, Any]] = []
        while batch or not (self._stopping.is_set() and self._waiting.empty()):
            if not batch:
                batch = self._next_batch()
            if not batch or self._write(batch):
                batch = []
            elif self._stopping.wait(TRY_AGAIN_SECONDS):
                log.error("audit lines lost", lines=len(batch))
                return

    def _next_batch(self) -> list[dict[str, Any]]:
        batch: list[dict[str, Any]] = []
        try:
            batch.append(self._waiting.get(timeout=0.2))
            while len(batch) < _BATCH:
                batch.append(self._waiting.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _write(self, batch: list[dict[str, Any]]) -> bool:
        lacking = self._lacking
        try:
            gap = [{"event": "AuditGap", "at": batch[0]["at"], "events": lacking}] if lacking else []
            self._trail.append([*gap, *batch])
        except OSError as error:
            if self.is_writing:
                log.warning("audit trail not written", reason=error.strerror)
            self.is_writing = False
            return False
        self._lacking -= lacking
        self.is_writing = True
        return True


def audit_line(event: Event) -> dict[str, Any]:
    """An event as the facts of a line."""
    facts = asdict(event)
    return {"event": type(event).__name__, **{key: _plain(value) for key, value in facts.items()}}


class Collector(Running):
    """Passes the trail on to a syslog collector, line by line; the trail itself keeps what it could not take yet.

    How far it came is kept in the trail's folder, so that a restart resumes from there.

    Parameters
    ----------
    trail, folder
        The trail and where it lies.
    client
        Speaks to the collector.
    source
        Who we are.
    """

    def __init__(self, trail: AuditTrail, folder: Path, client: SyslogClient, source: Source) -> None:
        self._trail = trail
        self._client = client
        self._source = source
        self._file = folder / "collector"
        self._position = self._load()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="audit collector", daemon=True)
        self._is_down = False

    def start(self) -> None:
        """Start to follow the trail."""
        self._thread.start()

    def stop(self) -> None:
        """Pass on what is there, if the collector takes it, and end."""
        self._stopping.set()
        self._thread.join()
        self._client.close()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            came_on = self._pass_on()
            self._stopping.wait(0.0 if came_on else TRY_AGAIN_SECONDS if self._is_down else 0.5)
        while self._pass_on():
            pass

    def _pass_on(self) -> bool:
        """Send the next lines; return whether there were any and the collector took them."""
        try:
            lines = list(self._trail.lines_after(self._position, _BATCH))
            if not lines:
                return False
            messages = [_message(line, self._source) for line, _ in lines]
            self._client.send([message for message in messages if message is not None])
            self._position = lines[-1][1]
            write_whole(self._file, json.dumps(asdict(self._position)) + "\n")
        except (NetworkError, OSError) as error:
            if not self._is_down:
                log.warning("audit collector down", reason=str(error))
            self._is_down = True
            return False
        if self._is_down:
            log.info("audit collector back")
        self._is_down = False
        return True

    def _load(self) -> Position:
        try:
            said = json.loads(self._file.read_bytes())
            return Position(str(said["file"]), int(said["offset"]))
        except (OSError, ValueError, KeyError, TypeError):
            # A collector named for the first time is told what happens from now on.
            return self._trail.end()


def _message(line: bytes, source: Source) -> bytes | None:
    try:
        return audit_message(json.loads(line), source)
    except (ValueError, KeyError, TypeError):  # a line that someone damaged: the trail's own check tells of it
        return None


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else cleaned(value)
