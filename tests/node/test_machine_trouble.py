"""The bundle of the real node is moved away for a moment while its model's process is killed."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mammoscope.inference import shipped_bundle
from mammoscope.node.db.repository import Records, StudyState


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copy(shipped_bundle(), tmp_path / "masses.onnx"))


@pytest.fixture
def node(peers: ModuleType, destination, bundle: Path, tmp_path: Path) -> Iterator[Any]:
    class RealNode(peers.NodeProcess):
        def start(self) -> None:
            command = [sys.executable, "-m", "mammoscope", "node", "run", "--config", str(self._config)]
            with self._log.open("ab") as log:
                self.process = subprocess.Popen(
                    command, stdout=log, stderr=log, env=self._environment, start_new_session=True
                )

    sections = {
        "destinations": [peers.destination_section(destination.port)],
        "node": {"quiet_seconds": 1, "free_gigabytes": 0.1},
        "model": {"bundle": str(bundle), "processes": 1, "threads": 1},
        "web": {"port": peers.free_port()},
    }
    node = RealNode(tmp_path / "node", sections)
    node.web = sections["web"]["port"]
    node.start()
    node.wait_until_it_listens()
    yield node
    node.kill()


def ready(node) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.web}/readyz", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_bundle_that_is_away_for_a_moment_costs_no_study_its_reading(
    peers: ModuleType, node, destination, bundle: Path, tmp_path: Path
) -> None:
    assert ready(node)[0] == 200
    os.kill(node.pid, signal.SIGHUP)  # asks many services for their settings anew, and ended this one
    peers.wait_for(lambda: node.events("settings not read again"), "it says that it does not")
    study = peers.SmallMammograms(tmp_path / "images", seed=4).study(0)
    bundle.rename(bundle.with_suffix(".away"))
    os.kill(node.events("model process started")[0]["process"], signal.SIGKILL)
    assert peers.send([image.file for image in study], node.port) == [0x0000] * 4

    peers.wait_for(lambda: node.events("reading put off"), "the trouble is told")
    assert node.events("reading put off")[0]["level"] == "error"
    peers.wait_for(lambda: ready(node)[0] == 503, "the node says that it is not ready")
    assert "reading" in ready(node)[1]
    records = Records.open(node.storage)
    try:
        record = records.study(study[0].study)
        assert record is not None
        assert (record.state, record.reports, record.failures) == (StudyState.RECEIVING, (), ())
        assert not destination.arrivals

        bundle.with_suffix(".away").rename(bundle)
        peers.wait_for(lambda: [a for a in destination.arrivals if a.dataset is not None], "the study is reported")
        record = records.study(study[0].study)
        assert record is not None
        [report] = record.reports
        assert [image.reason for image in report.images] == [None] * 4
    finally:
        records.close()
    peers.wait_for(lambda: ready(node)[0] == 200, "the node is ready again")
    assert str(bundle) not in str(record)
