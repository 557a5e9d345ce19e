"""`RayCluster`: the same work on many things, spread over the machines of a Ray cluster (the extra ``ray``).

Work goes out in order, comes back in order, and only the caller writes: what a node was doing when it died is done
again elsewhere, and its result is taken once.
"""

import logging
import re
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeVar

from mammoscope import __version__
from mammoscope.errors import MammoscopeError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MOST_RETRIES = 10
"""How often a thing is begun again after its worker or node died: one that kills every worker must have an end."""
CONNECTION_SECONDS = 20.0
_ADDRESS = re.compile(r"(ray://)?(?P<host>[^:/]+):(?P<port>[0-9]{1,5})")
_AHEAD = 2
"""Things under way a processor: enough to keep all at work, few enough for memory."""


class ClusterError(MammoscopeError):
    """The cluster cannot be used, or could not do the work."""


class Spread(Protocol):
    """A map over many processes; `RayCluster.map` is one."""

    def __call__(self, work: Callable[[_Item], _Result], items: Sequence[_Item], /) -> Iterator[_Result]:
        """Results in the order of the items, each as soon as it and those before it are there."""


class RayCluster:
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
        try:
            import ray
        except ImportError:
            raise ClusterError("--ray needs Ray: install it with pip install 'mammoscope[ray]'") from None
        _check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises whatever its parts raise
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise _no_cluster(address, reason) from None
        self._ray: Any = ray
        self.address = address

    def map(self, work: Callable[[_Item], _Result], items: Sequence[_Item], /, cpus: int = 1) -> Iterator[_Result]:
        """Do work on each item somewhere; give the results in the order of the items.

        Parameters
        ----------
        work
            A function that other machines can import. It must not matter whether it is done once or twice.
        cpus
            Processors that each needs.

        Raises
        ------
        ClusterError
            If a node has another version of Mammoscope, or an item's workers died again and again.
        """
        ray = self._ray
        remote = ray.remote(num_cpus=cpus, max_retries=MOST_RETRIES)(_checked)
        waiting, under_way = iter(items), deque[Any]()
        try:
            while True:
                while len(under_way) < self._most_under_way(cpus):
                    try:
                        item = next(waiting)
                    except StopIteration:
                        break
                    under_way.append(remote.remote(__version__, work, item))
                if not under_way:
                    return
                result = self._result(under_way[0])
                under_way.popleft()
                yield result
        finally:
            for reference in under_way:
                ray.cancel(reference)

    def close(self) -> None:
        """Leave the cluster; it goes on."""
        self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _most_under_way(self, cpus: int) -> int:
        """Asked for each time, since nodes come and go."""
        processors = int(self._ray.cluster_resources().get("CPU", 0))
        return _AHEAD * max(1, processors // cpus)

    def _result(self, reference: Any) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, MammoscopeError):
                raise error.cause from None
            raise ClusterError(
                f"a node of the Ray cluster at {self.address} failed ({type(error.cause).__name__}); is the same "
                f"Mammoscope {__version__} installed there?"
            ) from error
        except exceptions.RayError as error:
            raise ClusterError(
                f"the Ray cluster at {self.address} could not do the work ({type(error).__name__}): see its nodes' "
                "memory and logs"
            ) from error


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


def _checked(version: str, work: Callable[[_Item], _Result], item: _Item) -> _Result:
    if version != __version__:
        raise ClusterError(f"a node of the Ray cluster has Mammoscope {__version__}, not {version}: install the same")
    return work(item)
