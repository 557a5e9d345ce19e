import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

from mammoscope.findings import ReadingStatus
from mammoscope.network import WebService
from mammoscope.node.db.repository import DeliveryRecord, ImageRecord, Records, Report
from mammoscope.node.monitoring.metrics import Metrics, NodeState
from mammoscope.node.monitoring.readiness import (
    KEEP_SECONDS,
    Readiness,
    disk_has_room,
    nothing_is_late,
    operate_routes,
    storage_is_writable,
)
from mammoscope.node.preflight import check_machine
from mammoscope.settings import NodeSettings

STATE = NodeState(studies={"done": 1}, deliveries={}, workers=1, free_bytes=1)


def get(url: str) -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def test_the_node_tells_how_it_is():
    wrong = {"disk": None, "database": None}
    ticks = iter(range(0, 10_000, 1000))
    readiness = Readiness({name: lambda name=name: wrong[name] for name in wrong}, clock=lambda: next(ticks))
    with WebService("127.0.0.1", 0, operate_routes(readiness, Metrics(lambda: STATE))) as web:
        assert get(f"{web.url}/healthz")[::2] == (200, b"alive\n")
        status, _, body = get(f"{web.url}/readyz")
        assert (status, json.loads(body)) == (200, {"ready": True, "parts": {"disk": "ok", "database": "ok"}})
        wrong["disk"] = "no room; make some"
        status, _, body = get(f"{web.url}/readyz")
        assert (status, json.loads(body)) == (
            503, {"ready": False, "parts": {"disk": "no room; make some", "database": "ok"}},
        )  # fmt: skip
        status, kind, body = get(f"{web.url}/metrics")
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert b'mammoscope_studies{state="done"} 1.0' in body
        assert get(f"{web.url}/nothing")[0] == 404


def test_answers_are_kept_for_a_moment():
    now = [0.0]
    asked: list[None] = []
    readiness = Readiness({"part": lambda: asked.append(None)}, clock=lambda: now[0])
    readiness.ask()
    now[0] = KEEP_SECONDS
    readiness.ask()
    assert len(asked) == 1
    now[0] = KEEP_SECONDS + 0.1
    readiness.ask()
    assert len(asked) == 2


def test_a_check_that_raises_is_not_ready_and_tells_no_more_than_where():
    def broken() -> str | None:
        raise ValueError("Doe^Jane")

    (answer,) = Readiness({"part": broken}).ask().values()
    assert answer is not None
    assert "ValueError in" in answer
    assert "Doe" not in answer


def test_a_storage_folder_is_tried(tmp_path: Path):
    assert storage_is_writable(tmp_path)() is None
    assert list(tmp_path.iterdir()) == []
    missing = storage_is_writable(tmp_path / "missing")()
    assert missing is not None
    assert "cannot be written with hard links (No such file or directory)" in missing


@pytest.mark.parametrize(("free", "well"), [(0.0, True), (1e18, False)])
def test_a_full_disk_is_told(tmp_path: Path, free: float, well: bool):
    answer = disk_has_room(tmp_path, free)()
    assert (answer is None) is well
    if not well:
        assert "[node] free_gigabytes asks for 1000000000.0" in answer


def test_what_waits_past_its_time_is_told(tmp_path: Path):
    """Whoever stranded it: the records are asked, as beside a node that does not run at all."""
    destinations = [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}]

    def settings_with(**node: object) -> NodeSettings:
        return NodeSettings(node={"storage": tmp_path, **node}, destinations=destinations)

    settings = settings_with(answer_minutes=30, quiet_seconds=30)
    with Records.open(tmp_path) as records:
        check = nothing_is_late(records, settings)
        assert check() is None
        now = datetime.now(UTC)
        records.add_object("1.2", "1.2.1", "1.8", peer="MODALITY", at=now - timedelta(minutes=31))
        assert check() is None
        records.add_object("1.3", "1.3.1", "1.8", peer="MODALITY", at=now - timedelta(minutes=32))
        assert "1 study waits longer than answer_minutes = 30 to be answered, the first since" in str(check())
        image = ImageRecord(sop_instance_uid="1.3.1", status=ReadingStatus.NOTHING_FOUND)
        delivery = DeliveryRecord(destination="pacs")
        made = Report(number=1, made_at=now - timedelta(minutes=11), algorithm="Blob 1", seconds=1, images=(image,),
                      results=(), deliveries=(delivery,))  # fmt: skip
        records.add_report("1.3", made)
        told = str(check())
        assert told.startswith("1 report was to be sent to 'pacs' more than 10 minutes ago and nothing goes there")
        assert nothing_is_late(records, settings_with(shadow=True))() is None
        [outcome] = [o for o in islice(check_machine(settings), 4) if o.part == "waiting"]
        assert (outcome.well, outcome.words) == (False, told)
        records.set_delivery("1.3", 1, delivery.model_copy(update={"next_try_at": now + timedelta(minutes=5)}))
        assert check() is None  # a destination that is down, and tried again: that is seen elsewhere
