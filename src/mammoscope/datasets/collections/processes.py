"""The same work on many files, spread over the processors."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from mammoscope.datasets.collections.model import Progress

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def spread(
    work: Callable[[_Item], _Result],
    items: Sequence[_Item],
    doing: str,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    serial_up_to: int,
) -> list[_Result]:
    """Results in the order of the items.

    Parameters
    ----------
    work
        A function of a module, which another process can import.
    doing
        What the progress calls it.
    workers
        Processes; by default as many as this process may use processors.
    serial_up_to
        With so many items or fewer, starting processes costs more than it saves.
    """
    workers = workers or _processors()
    found: list[_Result] = []

    def gathered(results: Iterator[_Result]) -> list[_Result]:
        for result in results:
            found.append(result)
            if progress and (len(found) % 64 == 0 or len(found) == len(items)):
                progress(doing, len(found), len(items))
        return found

    if workers == 1 or len(items) <= serial_up_to:
        return gathered(map(work, items))
    chunk = max(1, min(serial_up_to, len(items) // (4 * workers)))
    # spawn: a fork would copy the locks of the caller's threads, held for ever in the child
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return gathered(pool.map(work, items, chunksize=chunk))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
