import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from mammoscope.node.db.repository import Records, WorkerRecord
from mammoscope.node.events import Origin
from mammoscope.node.monitoring.metrics import WORKER_SILENT_SECONDS, is_alive, read_state
from mammoscope.node.monitoring.phantom_check import PHANTOM_ROOT, LastRound, PhantomRound
from mammoscope.settings import NodeSettings


def test_the_state_tells_patients_workers_disk_and_phantom(make_settings: Callable[..., NodeSettings]):
    made = make_settings(104)
    settings = NodeSettings(**{**made.model_dump(), "health": {}})
    storage = settings.node.storage
    (storage / "phantom").mkdir(parents=True)
    at = datetime(2026, 1, 2, tzinfo=UTC)
    with Records.open(storage) as records:
        before = read_state(settings, records)
        records.add_object("1.2", "1.2.1", "1.8", peer="A")
        records.add_object(f"{PHANTOM_ROOT}.1", f"{PHANTOM_ROOT}.1.1", "1.8", peer="A", origin=Origin.PHANTOM)
        records.beat("worker", socket.gethostname(), 7)
        LastRound(storage).save(PhantomRound("1", at, came_round=False, reason="x", hops={"receive": 1.0}))
        after = read_state(settings, records)

    assert set(before.studies.values()) == {0}
    assert before.deliveries == {"pacs": {"pending": 0, "parked": 0}}
    assert (before.workers, before.phantom, before.certificate_expires) == (0, None, None)
    assert after.studies == {**before.studies, "receiving": 1}
    assert after.workers == 1
    assert abs(after.free_bytes - shutil.disk_usage(storage).free) < 1e9
    assert (after.phantom.at, after.phantom.came_round, after.phantom.hops) == (at, False, {"receive": 1.0})


def test_a_silent_worker_is_not_alive():
    now = datetime.now(UTC)
    facts = {"name": "a", "host": "h", "process": 1, "started_at": now, "beats": 5}
    assert is_alive(WorkerRecord(**facts, beat_at=now))
    assert not is_alive(WorkerRecord(**facts, beat_at=now - timedelta(seconds=WORKER_SILENT_SECONDS + 5)))
