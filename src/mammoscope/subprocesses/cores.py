"""How much may run at once."""

import os


def usable_cores() -> int:
    """How many cores this process may use, which a container may hold to fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
