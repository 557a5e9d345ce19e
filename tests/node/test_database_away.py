"""PostgreSQL is taken away while the node reads and while something is sent to it, and given back."""

import importlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydicom.uid import MammographyCADSRStorage

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
AWAY_SECONDS = 8.0
MOST_LINES_A_SECOND = 2.0
SUCCESS = 0x0000


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("node_under_test")


@pytest.fixture
def destination(peers: ModuleType) -> Iterator[Any]:
    with peers.CountingDestination(keeps=[MammographyCADSRStorage]) as destination:
        yield destination


def ready(port: int) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60) as answer:
            return answer.status, json.loads(answer.read())["parts"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["parts"]


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_loses_nothing_and_floods_no_log(
    peers: ModuleType, destination, postgresql_server, tmp_path: Path
) -> None:
    web = peers.free_port()
    sections = {
        "destinations": [peers.destination_section(destination.port)],
        "node": {"quiet_seconds": 1, "free_gigabytes": 0.1, "database": postgresql_server.url},
        "web": {"port": web},
    }
    options = ("--seconds", "1", "--operated", "--reconcile-every", "2")
    node = peers.NodeProcess(tmp_path / "node", sections, options=options)
    node.start()
    try:
        node.wait_until_it_listens()
        maker = peers.SmallMammograms(tmp_path / "images", seed=6)
        first, second = maker.study(0), maker.study(1)
        assert peers.send([image.file for image in first], node.port) == [SUCCESS] * 4
        peers.wait_for(lambda: node.events("image read"), "the first study is being read")
        postgresql_server.stop()
        lines, since = len(node.log_text().splitlines()), time.monotonic()
        refused = peers.send([image.file for image in second], node.port)
        assert SUCCESS not in refused  # nothing is acknowledged that is not recorded
        peers.wait_for(lambda: ready(web)[0] == 503, "the node says that it is not ready")
        assert ready(web)[1]["database"] != "ok"
        time.sleep(max(0.0, AWAY_SECONDS - (time.monotonic() - since)))
        seconds = time.monotonic() - since
        told = len(node.log_text().splitlines()) - lines - 2 * len(refused)  # two of each object
        assert told / seconds < MOST_LINES_A_SECOND, node.log_text()[-3000:]
        assert node.alive

        postgresql_server.start()
        peers.wait_for(lambda: ready(web)[0] == 200, "the node is ready again")
        assert peers.send([image.file for image in second], node.port) == [SUCCESS] * 4

        def answered() -> set[str]:
            return {str(a.dataset.StudyInstanceUID) for a in destination.arrivals if a.dataset is not None}

        peers.wait_for(lambda: answered() == {first[0].study, second[0].study}, "both studies are answered")
        peers.wait_for(lambda: len(node.events("results sent")) == 2, "it is told")
        arrived = [arrival.uid for arrival in destination.arrivals]
        assert len(arrived) == len(set(arrived))
    finally:
        node.kill()
