"""`RayCluster`: the same work on many things, spread over the machines of a Ray cluster (the extra ``ray``).

Work goes out in order, comes back in order, and only the caller writes: what a node was doing when it died is done
again elsewhere, and its result is taken once.

Ray is never loaded into this process. Its core is native code that ends the process it runs in when it meets a state
it did not expect, so a process of its own talks to the cluster (`mammoscope.ray_driver`), and may die alone.
"""

import contextlib
import importlib.util
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from mammoscope import __version__
from mammoscope.errors import MammoscopeError
from mammoscope.lifecycle import Closing

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MOST_DEATHS = 3
"""How often in a row, without a result between, the process that talks to Ray may die before the work is given up."""
CONNECTION_SECONDS = 20.0
_START_SECONDS = 300.0  # a cold, loaded machine imports slowly, and Ray has time-outs of its own
_STOP_SECONDS = 20.0
_ADDRESS = re.compile(r"(ray://)?(?P<host>[^:/]+):(?P<port>[0-9]{1,5})")
_FAILED_CHECK = re.compile(r"Check failed:.*")

# As in a child of the decoder: the caller's import path, neither its main module nor, with -P, its working directory.
_BOOTSTRAP = (
    "import json, sys; arguments, *path = sys.argv[1:]; sys.path[:] = path; del sys.argv[1:]; "
    "from mammoscope.ray_driver import main; main(*json.loads(arguments))"
)

log = logging.getLogger(__name__)


class ClusterError(MammoscopeError):
    """The cluster cannot be used, or could not do the work."""


class Spread(Protocol):
    """A map over many processes; `RayCluster.map` is one."""

    def __call__(self, work: Callable[[_Item], _Result], items: Sequence[_Item], /) -> Iterator[_Result]:
        """Results in the order of the items, each as soon as it and those before it are there."""


class RayCluster(Closing):
    """A connection to a Ray cluster, whose nodes see our files under our paths and have our version of Mammoscope.

    Parameters
    ----------
    address
        As Ray writes it: ``HOST:PORT`` of the head, ``ray://HOST:PORT`` of a client server, ``auto`` on a node.

    Raises
    ------
    ClusterError
        If Ray is not installed or there is no cluster at that address.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            self._ready: _Driver | None = _Driver(address)
        except _DriverDiedError as death:
            raise ClusterError(f"{self._died(death)} before it had joined: try another version of Ray") from None

    def map(self, work: Callable[[_Item], _Result], items: Sequence[_Item], /, cpus: int = 1) -> Iterator[_Result]:
        """Do work on each item somewhere; give the results in the order of the items.

        When the process that talks to the cluster dies, a warning is logged and another continues with the items whose
        results have not come yet.

        Parameters
        ----------
        work
            A function that other processes and machines can import. It must not matter whether it is done once or
            twice.
        cpus
            Processors that each needs.

        Raises
        ------
        ClusterError
            If a node has another version of Mammoscope, an item's workers died again and again, or the process that
            talks to the cluster did.
        MammoscopeError
            What ``work`` raised.
        """
        done = deaths = 0
        while True:
            driver, self._ready = self._ready, None
            try:
                driver = driver or _Driver(self.address)
                for result in driver.map(work, items[done:], cpus):
                    done, deaths = done + 1, 0
                    yield result
            except _DriverDiedError as death:
                deaths += 1
                if deaths == MOST_DEATHS:
                    raise ClusterError(
                        f"{self._died(death)} {deaths} times in a row, with {done} of {len(items)} parts of the work "
                        "done: try another version of Ray, or do without --ray"
                    ) from None
                log.warning(
                    "%s; %d of %d parts of the work are done, and another continues",
                    self._died(death),
                    done,
                    len(items),
                )
            else:
                return
            finally:
                if driver is not None:
                    driver.stop()

    def close(self) -> None:
        """Leave the cluster, which keeps running."""
        if self._ready is not None:
            self._ready.stop()
            self._ready = None

    def _died(self, death: "_DriverDiedError") -> str:
        return f"the process that talks to the Ray cluster at {self.address} died ({death})"


class _DriverDiedError(Exception):
    """The process that talks to Ray ended without a word; the text says how."""


class _Driver:
    """A process that talks to Ray for one map, and ends what it began on the cluster when it is stopped."""

    def __init__(self, address: str) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ClusterError("--ray needs Ray: install it with pip install 'mammoscope[ray]'")
        _check_reachable(address)
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        self._joined = False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - stop() closes it
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    _BOOTSTRAP,
                    json.dumps([theirs.fileno(), address]),
                    *filter(None, sys.path),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[theirs.fileno()],
            )
        try:
            refusal = self._receive(_START_SECONDS)
            if refusal is not None:
                raise _no_cluster(address, refusal)  # noqa: TRY301
        except BaseException:
            self.stop()
            raise
        self._joined = True

    def map(self, work: Callable[[_Item], _Result], items: Sequence[_Item], cpus: int) -> Iterator[_Result]:
        """As `RayCluster.map`, once."""
        try:
            self._connection.send((work, items, cpus))
        except OSError:
            raise _DriverDiedError(self._ending()) from None
        for _ in items:
            result, error = self._receive()
            if error is not None:
                raise error
            yield result

    def stop(self) -> None:
        """Let the process end by itself, and with it what it began; it must not outlive this."""
        self._connection.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def _receive(self, seconds: float | None = None) -> Any:
        try:
            if not self._connection.poll(seconds):
                self._process.kill()
                raise _DriverDiedError(f"no answer in {seconds:.0f} seconds")
            return self._connection.recv()
        except (EOFError, ConnectionError):
            raise _DriverDiedError(self._ending()) from None

    def _ending(self) -> str:
        """How the process ended, with the check of Ray's that failed where it named one."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)  # the connection closes a little before the process has its exit code
        code = self._process.poll()
        ending = "it hangs" if code is None else f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                ending = signal.Signals(-code).name
        said = os.pread(self._stderr.fileno(), 1 << 20, 0).decode("ascii", "replace").strip()
        failed = _FAILED_CHECK.search(said)
        if failed is not None:
            return f"{ending}, {failed[0].strip()}"
        # Before it has joined, it knows nothing of the images whose names an error might quote.
        return ending if self._joined or not said else f"{ending}, {said.splitlines()[-1]}"


def _check_reachable(address: str) -> None:
    """Ray tries for two minutes whether anybody listens, and says so in its own words."""
    if address == "auto":
        return
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise ClusterError(f"--ray {address}: write HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((parts["host"], int(parts["port"])), CONNECTION_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"there is no Ray cluster at {address} ({reason}): start one with 'ray start --head' and name its address"
    )


def check_version(version: str) -> None:
    """Refuse, on a node, work of another version of Mammoscope.

    Raises
    ------
    ClusterError
        If it is another.
    """
    if version != __version__:
        raise ClusterError(f"a node of the Ray cluster has Mammoscope {__version__}, not {version}: install the same")
