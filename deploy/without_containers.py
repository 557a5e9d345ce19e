"""The parts of compose.yaml without containers: PostgreSQL, Orthanc with DICOMweb, the node, and OHIF behind nginx.

    python deploy/without_containers.py --ohif FOLDER [--folder mammoscope-try]

Ports, accounts and files are those of compose.yaml, which is read for them; each part runs with its file of
deploy/compose, in which only names of services, ports and paths are put in the place of those of a container. OHIF is
the folder `dist` of the npm package @ohif/app. Needs Orthanc with its DICOMweb plugin, nginx and PostgreSQL installed
(Debian: orthanc orthanc-dicomweb nginx-light postgresql), and Mammoscope. Everything listens on 127.0.0.1. It runs
until Ctrl-C; what it keeps is in the folder, and is gone on from at the next start.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parent
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
ACCOUNT = "postgres"
"""PostgreSQL does not run as root; as root it is run by this account of Debian's."""
SECONDS = 120.0


def file_of(service: str, target: str) -> Path:
    """The file of deploy/ that compose.yaml mounts into a service at that place."""
    mounts = dict(reversed(volume.split(":")[:2]) for volume in SERVICES[service]["volumes"])
    return DEPLOY / mounts[target]


def published(service: str) -> list[int]:
    """The ports of this machine at which compose.yaml publishes a service, in its order."""
    return [int(port.split(":")[1]) for port in SERVICES[service].get("ports", [])]


ORTHANC, ROUTE = file_of("orthanc", "/etc/orthanc/orthanc.json"), file_of("orthanc", "/etc/orthanc/route.lua")
NODE = file_of("node", "/etc/mammoscope/node.toml")
SITE = file_of("viewer", "/etc/nginx/conf.d/default.conf")
CONFIG = file_of("viewer", "/etc/mammoscope/ohif/app-config.js")
DATABASE: dict[str, str] = SERVICES["postgres"]["environment"]
INSIDE = {"postgres": 15432, "ohif": 13000}
"""Ports that compose.yaml does not publish, between containers alone."""
PORTS = INSIDE | dict(
    zip(
        ("node", "health", "dicom", "web", "viewer"),
        [*published("node"), *published("orthanc"), *published("viewer")],
        strict=True,
    )
)


def main() -> None:
    """Run everything until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ohif", type=Path, required=True, help="the folder dist of the npm package @ohif/app")
    parser.add_argument("--folder", type=Path, default=Path("mammoscope-try"), help="for everything that is kept")
    parser.add_argument("--ports", type=json.loads, default={}, help='others than usual, as JSON: {"viewer": 3001}')
    chosen = parser.parse_args()
    ports = PORTS | chosen.ports
    os.umask(0o022)  # PostgreSQL's own account must get into its folder; the node narrows its files by itself
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder: Path = chosen.folder.resolve()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with ExitStack() as running:
        _postgres(running, folder, ports["postgres"])
        _orthanc(running, folder, ports)
        _node(running, folder, ports)
        _viewer(running, folder, ports, chosen.ohif.resolve())
        archive = json.loads(ORTHANC.read_text(encoding="utf-8"))
        accounts = ", ".join(" / ".join(account) for account in archive["RegisteredUsers"].items())
        print(f"ready: read at http://127.0.0.1:{ports['viewer']} ({accounts}), send to {archive['DicomAet']} at port"
              f" {ports['dicom']}; Ctrl-C ends it", flush=True)  # fmt: skip
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("ending", flush=True)


def _program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        sys.exit(f"{name} is not installed; see the head of {Path(__file__).name}")
    return found


def _start(
    running: ExitStack, folder: Path, name: str, command: Sequence[str | Path], is_up: Callable[[], bool]
) -> None:
    """Run a part until the end, its words in a file, and wait until it is up."""
    log = running.enter_context((folder / f"{name}.log").open("ab"))
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)

    def stop() -> None:
        process.terminate()
        process.wait(60)

    running.callback(stop)
    until = time.monotonic() + SECONDS
    while not is_up():
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"{name} did not start; its own words are in {folder / name}.log")
        time.sleep(0.2)


def _postgres(running: ExitStack, folder: Path, port: int) -> None:
    programs = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"))
    if not programs:
        sys.exit("postgresql is not installed")
    bin_, place = programs[-1], folder / "postgres"
    place.mkdir(exist_ok=True)
    run_as: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(place, ACCOUNT, ACCOUNT)
        run_as = [_program("setpriv"), f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
    if not (place / "data").is_dir():
        password = place / "password"
        password.write_text(DATABASE["POSTGRES_PASSWORD"] + "\n")
        if run_as:
            shutil.chown(password, ACCOUNT, ACCOUNT)
        options = [
            "-U",
            DATABASE["POSTGRES_USER"],
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        subprocess.run([*run_as, bin_ / "initdb", "-D", place / "data", *options], check=True, capture_output=True)
    settings = [
        "-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={place}",
    ]  # fmt: skip
    ready = [bin_ / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
    _start(
        running,
        folder,
        "postgresql",
        [*run_as, bin_ / "postgres", "-D", place / "data", *settings],
        lambda: subprocess.run(ready, check=False).returncode == 0,
    )
    environment = {**os.environ, "PGPASSWORD": DATABASE["POSTGRES_PASSWORD"]}
    login = ["-h", "127.0.0.1", "-p", str(port), "-U", DATABASE["POSTGRES_USER"]]
    create = [bin_ / "createdb", *login, DATABASE["POSTGRES_DB"]]
    subprocess.run(create, env=environment, check=False, capture_output=True)  # it may be there


def _orthanc(running: ExitStack, folder: Path, ports: dict[str, int]) -> None:
    settings = json.loads(ORTHANC.read_text(encoding="utf-8"))
    storage = folder / "orthanc"
    settings |= {
        "StorageDirectory": str(storage), "IndexDirectory": str(storage), "LuaScripts": [str(ROUTE)],
        "Plugins": [str(PLUGIN)], "DicomPort": ports["dicom"], "HttpPort": ports["web"], "RemoteAccessAllowed": False,
    }  # fmt: skip
    settings["DicomModalities"]["mammoscope"] |= {"Host": "127.0.0.1", "Port": ports["node"]}
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    address = f"http://127.0.0.1:{ports['web']}/system"
    _start(running, folder, "orthanc", [_program("Orthanc"), file], lambda: _status(address) in (200, 401))


def _node(running: ExitStack, folder: Path, ports: dict[str, int]) -> None:
    file = folder / "node.toml"
    file.write_text(
        _put_in(NODE, {
            '"/var/lib/mammoscope"': json.dumps(str(folder / "node")),
            "@postgres/": f"@127.0.0.1:{ports['postgres']}/",
            'host = "orthanc"': 'host = "127.0.0.1"',
            f"port = {PORTS['dicom']}": f"port = {ports['dicom']}",
            f"port = {PORTS['node']}": f"port = {ports['node']}",
            f"port = {PORTS['health']}": f"port = {ports['health']}",
            '"0.0.0.0"': '"127.0.0.1"',
        }),
        encoding="utf-8",
    )  # fmt: skip
    address = f"http://127.0.0.1:{ports['health']}/healthz"
    command = [sys.executable, "-m", "mammoscope", "node", "run", "--config", file]
    _start(running, folder, "node", command, lambda: _status(address) == 200)


def _viewer(running: ExitStack, folder: Path, ports: dict[str, int], ohif: Path) -> None:
    site = _put_in(SITE, {
        f"listen {PORTS['viewer']};": f"listen 127.0.0.1:{ports['viewer']};",
        f"http://orthanc:{PORTS['web']}": f"http://127.0.0.1:{ports['web']}",
        "http://ohif:80": f"http://127.0.0.1:{ports['ohif']}",
        "/etc/mammoscope/ohif": str(CONFIG.parent),
    })  # fmt: skip
    # What OHIF's own container serves: its files, and its page for every address of its own.
    files = (
        f"server {{ listen 127.0.0.1:{ports['ohif']}; root {ohif}; location / {{ try_files $uri /index.html; }} }}\n"
    )
    scratch = " ".join(
        f"{kind}_temp_path {folder / 'nginx'};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx").mkdir(exist_ok=True)
    user = "user root;\n" if os.geteuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(
        f"{user}daemon off;\npid {folder / 'nginx.pid'};\nerror_log {folder / 'nginx.log'};\nevents {{}}\n"
        f"http {{\ninclude /etc/nginx/mime.types;\naccess_log off;\n{scratch}\n{site}\n{files}}}\n",
        encoding="utf-8",
    )
    address = f"http://127.0.0.1:{ports['viewer']}/app-config.js"
    command = [_program("nginx"), "-p", folder, "-c", file, "-e", folder / "nginx.log"]
    _start(running, folder, "nginx", command, lambda: _status(address) == 200)


def _put_in(file: Path, replacements: dict[str, str]) -> str:
    """The text of a file with each of these replaced at once; all of them must be there."""
    text = file.read_text(encoding="utf-8")
    for before in replacements:
        if before not in text:
            sys.exit(f"{before} is not in {file}, which compose.yaml wants there")
    return re.sub("|".join(map(re.escape, replacements)), lambda found: replacements[found[0]], text)


def _status(address: str) -> int | None:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


if __name__ == "__main__":
    main()
