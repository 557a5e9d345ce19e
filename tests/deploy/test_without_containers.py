"""The parts of compose.yaml, run without containers by their own script: a study goes in, and comes back to be read."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from mammoscope.network import Destination, StorageClient
from mammoscope.phantom import screening_study

pytestmark = pytest.mark.pacs
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
ACCOUNT = ("demo", "demo")


@pytest.fixture
def try_out(root: Path, tmp_path: Path, free_ports: Callable[[int], list[int]]):
    for program in ("Orthanc", "nginx"):
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed")
    if not PLUGIN.is_file() or not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        pytest.skip("Orthanc's DICOMweb plugin or PostgreSQL is not installed")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.html").write_text("<html>OHIF</html>")
    folder = Path("/tmp") / f"mammoscope-try-{os.getpid()}"  # the account of PostgreSQL must be let in
    names = ("viewer", "web", "dicom", "node", "health", "postgres", "ohif")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [sys.executable, root / "deploy" / "without_containers.py", "--ohif", tmp_path / "dist"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*command, "--folder", folder, "--ports", json.dumps(ports)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("ready: "), line + process.stdout.read()
            yield ports
        finally:
            process.terminate()
            assert process.wait(120) == 0
            shutil.rmtree(folder, ignore_errors=True)


def test_a_study_is_routed_read_and_there_to_be_looked_at(try_out, tmp_path: Path):
    ports = try_out
    study = screening_study(3, rows=512, columns=384)
    images = study.save(tmp_path / "study")
    uid = str(study.images[0].dataset.StudyInstanceUID)
    pacs = Destination("orthanc", "ORTHANC", "127.0.0.1", ports["dicom"])
    assert all(sending.error is None for sending in StorageClient("MODALITY").send(images, pacs))

    viewer = httpx.Client(base_url=f"http://127.0.0.1:{ports['viewer']}", auth=ACCOUNT, timeout=60)
    assert "mammoscope-four-views" in viewer.get("/app-config.js").text
    assert "OHIF" in viewer.get(f"/viewer?StudyInstanceUIDs={uid}").text
    assert httpx.get(f"{viewer.base_url}/dicom-web/studies").status_code == 401  # not without an account

    def series() -> list[str]:
        found = viewer.get(f"/dicom-web/studies/{uid}/series", params={"includefield": "0008103E"}).json()
        return sorted(
            one.get("0008103E", {}).get("Value", [""])[0] for one in found if one["00080060"]["Value"] != ["MG"]
        )

    until = time.monotonic() + 180
    while len(series()) < 2:
        assert time.monotonic() < until, series()
        time.sleep(0.5)
    assert [words.split(",")[0] for words in series()] == ["Mammoscope AI report", "Mammoscope CAD sheet"]
    assert httpx.get(f"http://127.0.0.1:{ports['health']}/healthz").status_code == 200
