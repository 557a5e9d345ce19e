"""How the node stands, from its database and its disk: for metrics and for ``mammoscope node status``."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mammoscope.node.archives import tls_of
from mammoscope.node.health import LastRound
from mammoscope.node.metrics import NodeState, PhantomState
from mammoscope.node.records import Records, WorkerRecord
from mammoscope.settings import NodeSettings

WORKER_SILENT_SECONDS = 60.0
"""A worker that said nothing for so long counts as dead."""


def read_state(settings: NodeSettings, records: Records) -> NodeState:
    """Ask the database and the disk; works beside a running node.

    Raises
    ------
    OSError, sqlalchemy.exc.SQLAlchemyError
        If they do not answer.
    """
    counts, tls = records.counts(), tls_of(settings)
    deliveries = {destination.name: dict.fromkeys(("pending", "parked"), 0) for destination in settings.destinations}
    for name, by_status in counts.deliveries.items():
        deliveries[name] = {str(status): count for status, count in by_status.items()}
    return NodeState(
        studies={str(state): count for state, count in counts.studies.items()},
        deliveries=deliveries,
        workers=sum(is_alive(worker) for worker in records.workers()),
        free_bytes=shutil.disk_usage(settings.node.storage).free,
        phantom=_phantom(settings.node.storage) if settings.health else None,
        certificate_expires=tls.expires_at() if tls else None,
    )


def is_alive(worker: WorkerRecord) -> bool:
    """Whether a worker was heard of lately, by this machine's clock."""
    return abs(datetime.now(UTC) - worker.beat_at) < timedelta(seconds=WORKER_SILENT_SECONDS)


def _phantom(storage: Path) -> PhantomState | None:
    last = LastRound(storage).load()
    return PhantomState(last.at, last.came_round, last.hops) if last else None
