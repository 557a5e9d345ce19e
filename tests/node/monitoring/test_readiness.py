import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mammoscope.network import WebService
from mammoscope.node.monitoring.metrics import Metrics, NodeState
from mammoscope.node.monitoring.readiness import (
    KEEP_SECONDS,
    Readiness,
    disk_has_room,
    operate_routes,
    storage_is_writable,
)

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
