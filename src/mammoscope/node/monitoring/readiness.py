"""`Readiness`: whether the node can do its work now, asked part by part, and why not.

What the node serves to its administrator: ``/healthz``, ``/readyz`` and ``/metrics``.
"""

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mammoscope.errors import MammoscopeError
from mammoscope.logging import where_raised
from mammoscope.node.db.repository import Records
from mammoscope.node.monitoring.metrics import Metrics
from mammoscope.settings import NodeSettings

STANDSTILL_SECONDS = 600.0
"""A destination that gets nothing for so long though something is due to be sent there is worth a person's look."""
GRACE_SECONDS = 60.0
"""A study is late so long after it was to be answered: making its report takes a while."""
KEEP_SECONDS = 5.0
"""How long answers are kept, so that whoever asks often costs nothing."""

Check = Callable[[], str | None]
"""``None`` when all is well, else one sentence: what is wrong, and what to do."""

log = structlog.get_logger(__name__)


class Readiness:
    """Asks every part and keeps the answers for a moment. Safe to use from several threads.

    Parameters
    ----------
    checks
        By name; one that raises is answered for by its error.
    """

    def __init__(self, checks: Mapping[str, Check], clock: Callable[[], float] = time.monotonic) -> None:
        self._checks = dict(checks)
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._answers: dict[str, str | None] = {}

    def ask(self) -> Mapping[str, str | None]:
        """What each part answered."""
        with self._lock:
            if self._clock() - self._asked_at > KEEP_SECONDS:
                self._answers = {name: _answer(name, check) for name, check in self._checks.items()}
                self._asked_at = self._clock()
            return dict(self._answers)


def storage_is_writable(folder: Path) -> Check:
    """Check that a file can be written, synced and linked in a folder, as each received object is."""

    def check() -> str | None:
        name = folder / f".check-{uuid.uuid4().hex}"
        link = name.with_suffix(".link")
        try:
            with name.open("wb") as file:
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
            os.link(name, link)
        except OSError as error:
            return (
                f"the storage folder {folder} cannot be written with hard links ({error.strerror}); use a local disk"
                " with room that this account may write to"
            )
        finally:
            for leftover in (name, link):
                leftover.unlink(missing_ok=True)
        return None

    return check


def disk_has_room(folder: Path, free_bytes: float) -> Check:
    """Check that the folder's disk has more room than that below which no object is taken."""

    def check() -> str | None:
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            return f"the free room of {folder} cannot be told ({error.strerror})"
        if free >= free_bytes:
            return None
        return (
            f"{free / 1e9:.1f} GB are free and [node] free_gigabytes asks for {free_bytes / 1e9:.1f}; objects are"
            " refused until there is more room"
        )

    return check


def nothing_is_late(records: Records, settings: NodeSettings) -> Check:
    """Check that every study is answered in its time, and that what is due to be sent is sent.

    It asks the records alone, so it finds whatever is stranded, for whatever reason, and works beside a running node.
    """
    node = settings.node

    def check() -> str | None:
        now = datetime.now(UTC)
        before = now - timedelta(minutes=node.answer_minutes, seconds=node.quiet_seconds + GRACE_SECONDS)
        studies, since = records.overdue_studies(before)
        told = []
        if since is not None:
            told.append(
                f"{studies} {'study waits' if studies == 1 else 'studies wait'} longer than answer_minutes ="
                f" {node.answer_minutes:g} to be answered, the first since {since:%Y-%m-%d %H:%M} UTC"
            )
        if not node.shadow:
            told += [
                f"{count} {'report was' if count == 1 else 'reports were'} to be sent to '{name}' more than"
                f" {STANDSTILL_SECONDS / 60:.0f} minutes ago and nothing goes there"
                for name, count in records.standstills(now - timedelta(seconds=STANDSTILL_SECONDS))
            ]
        if not told:
            return None
        return f"{'; '.join(told)}: see the log for disk, database and model, and that the node runs"

    return check


def _answer(name: str, check: Check) -> str | None:
    try:
        return check()
    except MammoscopeError as error:
        return str(error)
    except Exception as error:  # whatever a part raises, it is not ready
        log.warning("check failed", part=name, error=where_raised(error))
        return f"it cannot be told ({where_raised(error)})"


PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def operate_routes(readiness: Readiness, metrics: Metrics) -> list[Route]:
    """Make the routes; none tells anything of a patient, so they ask for no token.

    ``/healthz`` answers 200 as long as the process lives; ``/readyz`` 200 when each part is well, else 503, with each
    part's own words; ``/metrics`` in Prometheus' text format.
    """

    async def healthz(_: Request) -> Response:  # a coroutine: it waits for no thread, however many are busy
        return PlainTextResponse("alive\n")

    def readyz(_: Request) -> Response:
        answers = readiness.ask()
        ready = all(answer is None for answer in answers.values())
        parts = {name: answer or "ok" for name, answer in answers.items()}
        return JSONResponse({"ready": ready, "parts": parts}, status_code=200 if ready else 503)

    def page(_: Request) -> Response:
        return Response(metrics.page(), headers={"Content-Type": PROMETHEUS_TEXT})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", page)]
