"""`LoginLimiter`: after wrong passwords a name, or an address, has to wait."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

MOST_PER_NAME = 5
MOST_PER_ADDRESS = 20
WITHIN_SECONDS = 300.0
MOST_REMEMBERED = 10_000


class LoginLimiter:
    """Counts wrong passwords of the last minutes, in memory.

    Parameters
    ----------
    clock
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[tuple[str, str], deque[float]] = defaultdict(deque)

    def seconds_to_wait(self, name: str, address: str) -> float:
        """How long that name, from that address, has to wait; 0 when it may try."""
        with self._lock:
            return max(self._wait(("name", name), MOST_PER_NAME), self._wait(("address", address), MOST_PER_ADDRESS))

    def failed(self, name: str, address: str) -> None:
        """Note a wrong password."""
        with self._lock:
            if len(self._failures) > MOST_REMEMBERED:
                self._failures.clear()
            for key in (("name", name), ("address", address)):
                self._failures[key].append(self._clock())

    def succeeded(self, name: str) -> None:
        """Forget the wrong passwords of a name."""
        with self._lock:
            self._failures.pop(("name", name), None)

    def _wait(self, key: tuple[str, str], most: int) -> float:
        failures = self._failures.get(key)
        if not failures:
            return 0.0
        now = self._clock()
        while failures and failures[0] <= now - WITHIN_SECONDS:
            failures.popleft()
        return 0.0 if len(failures) < most else failures[-most] + WITHIN_SECONDS - now
