"""Having the system write a file to the disk while it still grows, so that little is left to sync at its end."""

import ctypes
from collections.abc import Callable

WRITE = 2
"""SYNC_FILE_RANGE_WRITE of Linux: begin to write what is not on its way yet, and do not wait for it."""


def _system_call() -> Callable[[int, int, int, int], int] | None:
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_sync_file_range = _system_call()


def begin_to_write(descriptor: int, start: int, end: int) -> None:
    """Begin to write these bytes of a file: a hint, which makes nothing safe. Nothing where the system lacks it."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, start, end - start, WRITE)
