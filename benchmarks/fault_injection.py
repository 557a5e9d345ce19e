"""File operations of a running process made to fail: a library that is loaded before the C library, and its orders.

Shared by `faults.py` and the tests of the node. Needs a C compiler (Debian's gcc and libc6-dev).
"""

import ctypes
import errno
import mmap
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("fault_injection.c")
KILL = 9999
"""In place of an errno: the process is killed instead of doing it."""
OPERATIONS = ("create", "write", "sync", "link", "rename", "mkdir", "remove", "cut", "open", "read")
CHANGE = "change"
"""Every operation that needs the disk to take something."""
ERRORS: Mapping[str, int] = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "kill": KILL}


class _Orders(ctypes.Structure):
    _fields_ = (
        ("armed", ctypes.c_int),
        ("error", ctypes.c_int),
        ("let_pass", ctypes.c_long),
        ("fail", ctypes.c_long),
        ("matched", ctypes.c_long),
        ("failed", ctypes.c_long),
        ("operation", ctypes.c_char * 16),
        ("path", ctypes.c_char * 64),
        ("traced", ctypes.c_int),
    )


class Faults:
    """Orders for one process: what fails below a folder, how often, with which error.

    Parameters
    ----------
    folder
        For the library, the orders and the trace; not below ``root``.
    root
        The folder whose files fail.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._library, self._file = folder / "faults.so", folder / "orders"
        self._root = root
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self._library, SOURCE, "-ldl", "-lpthread"], check=True)
        self._file.write_bytes(bytes(ctypes.sizeof(_Orders)))
        with self._file.open("r+b") as file:
            self._orders = _Orders.from_buffer(mmap.mmap(file.fileno(), 0))

    @property
    def environment(self) -> dict[str, str]:
        """What the process is to be started with."""
        return {"LD_PRELOAD": str(self._library), "FAULTS_ORDERS": str(self._file), "FAULTS_ROOT": str(self._root)}

    def arm(self, operation: str, error: int, *, path: str = "", let_pass: int = 0, times: int = 1) -> None:
        """Have an operation fail.

        Parameters
        ----------
        operation
            One of `OPERATIONS`, or `CHANGE`.
        error
            An errno, or `KILL`.
        path
            Part of the paths that are meant; empty for all below the folder.
        let_pass, times
            So many go well first, then so many fail; -1 for all until it is disarmed.
        """
        orders = self._orders
        orders.armed = 0
        orders.operation, orders.path = operation.encode(), path.encode()
        orders.error, orders.let_pass, orders.fail = error, let_pass, times
        orders.matched = orders.failed = 0
        orders.armed = 1

    def disarm(self) -> int:
        """Have everything go well again; return how many operations failed."""
        self._orders.armed = 0
        return int(self._orders.failed)

    @property
    def failed(self) -> int:
        """How many operations failed since the last order."""
        return int(self._orders.failed)

    def trace(self, *, on: bool) -> list[tuple[str, str]]:
        """Write operations down or stop to; return those so far, each with its path below the folder."""
        self._orders.traced = int(on)
        file = self._file.with_name(f"{self._file.name}.trace")
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
        if on:
            file.write_bytes(b"")
        return [(operation, path) for operation, _, path in (line.partition(" ") for line in lines)]
