"""Orthanc with DICOMweb, and OHIF beside it on one origin: what a browser needs to show a study."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

ORTHANC_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC_WEB_VIEWER = ORTHANC_PLUGIN.with_name("libOrthancWebViewer.so")
PATH = os.pathsep.join(
    folder
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin"]
    if Path(folder) != Path(sys.prefix, "bin")
)
_HOP_BY_HOP = {"transfer-encoding", "content-length", "connection", "keep-alive", "content-encoding", "host"}


@dataclass(frozen=True)
class Archive:
    """A running Orthanc."""

    rest: str

    def store(self, files: Iterable[Path]) -> None:
        """Put objects in, and fail where one is not taken."""
        with httpx.Client(base_url=self.rest, timeout=60) as client:
            for file in files:
                answer = client.post("/instances", content=file.read_bytes())
                answer.raise_for_status()

    def instances(self) -> int:
        """How many objects there are."""
        return int(httpx.get(f"{self.rest}/statistics").json()["CountInstances"])


@contextmanager
def orthanc(folder: Path, http: int, dicom: int, plugins: Sequence[Path] = (ORTHANC_PLUGIN,)) -> Iterator[Archive]:
    """An empty Orthanc with its data in a folder."""
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(plugin) for plugin in plugins],
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "OverwriteInstances": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "WebViewer": {"CachePath": str(folder / "pictures")},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    archive = Archive(f"http://127.0.0.1:{http}")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [shutil.which("Orthanc", path=PATH) or "Orthanc", folder / "orthanc.json"],
            env={**os.environ, "PATH": PATH},
            stdout=log,
            stderr=log,
        )
    try:
        _wait(lambda: process.poll() is not None or _answers(f"{archive.rest}/system"))
        assert process.poll() is None, (folder / "orthanc.log").read_text()
        yield archive
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def web_origin(dist: Path, config: str, archive: Archive, port: int) -> Iterator[str]:
    """OHIF's files, and under ``/dicom-web`` what the archive answers, on one origin."""

    async def files(request: Request) -> Response:
        path = request.path_params["path"]
        if path == "app-config.js":
            return Response(config, media_type="text/javascript")
        file = (dist / path).resolve()
        if not file.is_relative_to(dist.resolve()) or not file.is_file():
            file = dist / "index.html"  # a single-page application: every other address is its own
        return FileResponse(file)

    # A connection for each request: Orthanc ends idle ones, on a slow machine just as they are used again.
    limits = httpx.Limits(max_keepalive_connections=0)
    client = httpx.AsyncClient(base_url=archive.rest, timeout=120, limits=limits)

    async def proxied(request: Request) -> Response:
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP]
        answer = await client.request(
            request.method,
            request.url.path,
            params=request.query_params,
            headers=headers,
            content=await request.body(),
        )
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
        return Response(answer.content, status_code=answer.status_code, headers=kept)

    routes = [
        Route("/dicom-web/{path:path}", proxied, methods=["GET", "POST", "HEAD", "OPTIONS"]),
        Route("/{path:path}", files),
    ]
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        _wait(lambda: _answers(f"http://127.0.0.1:{port}/app-config.js"))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 200
    except httpx.HTTPError:
        return False


def _wait(done: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "a server did not answer in time"
        time.sleep(0.1)
