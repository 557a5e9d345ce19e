"""Keeping the memory of a process that runs for months flat."""

import ctypes

ARENA_MAX, MMAP_THRESHOLD = -8, -3
"""Of mallopt in glibc's malloc.h."""
ARENAS = 2
LARGE_BYTES = 256 * 1024


def keep_memory_flat() -> None:
    """Have the C library give large pieces back as soon as they are freed; nothing where it is not glibc.

    Left to itself it keeps a heap for each of the first threads, and takes ever larger pieces from them, which then lie
    between small ones and cannot be given back: 370 MB instead of 270 after 40 small studies.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(ARENA_MAX, ARENAS)
        mallopt(MMAP_THRESHOLD, LARGE_BYTES)
