"""The process that talks to a Ray cluster for `mammoscope.cluster`: what Ray calls a driver, for one map.

Nothing here calls ``ray.cancel``. A task that is cancelled while its answer is under way is completed twice in the
driver, whose core then fails its own check ("Tried to complete task that was not pending", task_manager.cc) and ends
the process; seen with Ray 2.55.1 and 2.60.0, and of the kind of Ray's pull request 54798. When a driver leaves the
cluster, Ray ends what it had begun there, and that is how work that nobody waits for any more is ended.
"""

import logging
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import ray

from mammoscope import __version__
from mammoscope.cluster import ClusterError, check_version
from mammoscope.errors import MammoscopeError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MOST_RETRIES = 10
"""How often a thing is begun again after its worker or node died: one that kills every worker must have an end."""
_AHEAD = 2
"""Things under way a processor: enough to keep all at work, few enough for memory."""


def main(file_descriptor: int, address: str) -> None:
    """Join the cluster, say so (``None``, or the reason why not), take one map and answer (result, error) for each.

    Ends when the map is done, at the first error, or when the other end closes the connection.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who closes the connection
    connection = Connection(file_descriptor)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises whatever its parts raise
        connection.send(next(iter(str(error).splitlines()), type(error).__name__))
        return
    try:
        connection.send(None)
        work, items, cpus = connection.recv()
        threading.Thread(target=_leave_with, args=(connection,), daemon=True).start()
        _answer(connection, address, work, items, cpus)
    except (EOFError, ConnectionError):
        pass  # nobody waits any more
    finally:
        ray.shutdown()


def _leave_with(connection: Connection) -> None:
    """End this process, also in the middle of waiting for a result, when the caller is gone."""
    connection.poll(None)  # nothing more is ever sent here: what wakes it is the end
    os.kill(os.getpid(), signal.SIGTERM)  # upon which Ray leaves the cluster


def _answer(
    connection: Connection, address: str, work: Callable[[_Item], _Result], items: Sequence[_Item], cpus: int
) -> None:
    try:
        for result in _map(address, work, items, cpus):
            connection.send((result, None))
    except MammoscopeError as error:
        connection.send((None, _sendable(error)))


def _map(address: str, work: Callable[[_Item], _Result], items: Sequence[_Item], cpus: int) -> Iterator[_Result]:
    remote: Any = ray.remote(num_cpus=cpus, max_retries=MOST_RETRIES)(_checked)
    waiting, under_way = iter(items), deque[Any]()
    while True:
        while len(under_way) < _most_under_way(cpus):
            try:
                item = next(waiting)
            except StopIteration:
                break
            under_way.append(remote.remote(__version__, work, item))
        if not under_way:
            return
        yield _result(address, under_way.popleft())


def _most_under_way(cpus: int) -> int:
    """Asked for each time, since nodes come and go."""
    resources: Any = ray.cluster_resources
    processors = int(resources().get("CPU", 0))
    return _AHEAD * max(1, processors // cpus)


def _result(address: str, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MammoscopeError):
            raise error.cause from None
        raise ClusterError(
            f"a node of the Ray cluster at {address} failed ({type(error.cause).__name__}); is the same "
            f"Mammoscope {__version__} installed there?"
        ) from error
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"the Ray cluster at {address} could not do the work ({type(error).__name__}): see its nodes' "
            "memory and logs"
        ) from error


def _sendable(error: MammoscopeError) -> MammoscopeError:
    """The error, or its sentence where its class cannot be built anew from a pickle."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return MammoscopeError(str(error))
    return error


def _checked(version: str, work: Callable[[_Item], _Result], item: _Item) -> _Result:
    check_version(version)
    return work(item)
