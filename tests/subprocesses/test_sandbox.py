"""What a child may still do once it has given up what it does not need; each is tried in a process of its own."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mammoscope.imaging import MammogramReader
from mammoscope.subprocesses import machine_memory

TRY = """
import json, os, pathlib, signal, socket, subprocess, sys, threading
import numpy, cv2
from mammoscope.subprocesses import forbid_system_calls, limit_memory
folder = pathlib.Path(sys.argv[1])
limit_memory(4 << 30)
forbidden = forbid_system_calls()

def tried(action):
    try:
        action()
    except PermissionError:
        return "forbidden"
    except BaseException as error:
        return type(error).__name__
    return "done"

thread = threading.Thread(target=lambda: None)
told = {
    "connect": tried(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])))),
    "unix socket": tried(lambda: socket.socket(socket.AF_UNIX)),
    "program": tried(lambda: subprocess.run(["true"])),
    "fork": tried(os.fork),
    "write": tried(lambda: (folder / "new").write_text("x")),
    "append": tried(lambda: (folder / "there").open("a")),
    "delete": tried(lambda: (folder / "there").unlink()),
    "rename": tried(lambda: (folder / "there").rename(folder / "gone")),
    "folder": tried(lambda: (folder / "sub").mkdir()),
    "mode": tried(lambda: (folder / "there").chmod(0o777)),
    "signal": tried(lambda: os.kill(os.getppid(), 0)),
    "read": tried(lambda: (folder / "there").read_text()),
    "thread": tried(lambda: (thread.start(), thread.join())),
    "resize": tried(lambda: cv2.resize(numpy.zeros((2000, 2000), "u2"), (50, 50), interpolation=cv2.INTER_AREA)),
    "memory": tried(lambda: numpy.ones(5 << 30, "u1")),
    "import": tried(lambda: __import__("gdcm")),
}
print(json.dumps([forbidden, told]))
"""


def test_a_child_has_no_network_starts_nothing_and_changes_no_file(tmp_path: Path, free_tcp_port: int) -> None:
    (tmp_path / "there").write_text("text")
    done = subprocess.run(
        [sys.executable, "-c", TRY, tmp_path, str(free_tcp_port)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ,
    )
    forbidden, told = json.loads(done.stdout)
    if platform.machine() not in ("x86_64", "aarch64") or not sys.platform.startswith("linux"):
        pytest.skip("no filter of system calls is written for this machine")
    assert forbidden, "the kernel has no filter of system calls"
    allowed = {"read", "thread", "resize", "import"}
    assert {what for what, how in told.items() if how == "done"} == allowed
    assert told.pop("memory") == "MemoryError" or told["memory"] == "_ArrayMemoryError"
    assert {told[what] for what in told.keys() - allowed} == {"forbidden"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["there"]


@pytest.mark.slow
def test_the_decoder_is_confined(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.linear_gradient("L")
    picture.save(tmp_path / "L_CC.png")
    with MammogramReader() as reader:
        reader.read(tmp_path / "L_CC.png")
        [pid] = reader.process_ids
        status = Path(f"/proc/{pid}/status").read_text()
        limits = Path(f"/proc/{pid}/limits").read_text()
    facts = dict(line.split(":", 1) for line in status.splitlines())
    assert (facts["Seccomp"].strip(), facts["NoNewPrivs"].strip()) == ("2", "1")
    space = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max address space"))
    assert 0 < int(space) <= machine_memory()
    assert next(line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size")) == "0"


@pytest.mark.slow
def test_what_the_node_is_told_in_its_environment_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setenv("MAMMOSCOPE_WEB__TOKENS", "a-secret-of-the-node")
    Image.linear_gradient("L").save(tmp_path / "L_CC.png")
    with MammogramReader() as reader:
        reader.read(tmp_path / "L_CC.png")
        [pid] = reader.process_ids
        assert b"a-secret-of-the-node" not in Path(f"/proc/{pid}/environ").read_bytes()
