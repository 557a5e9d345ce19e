"""Keeping pynetdicom's own thread of an association from taking a response that the sender waits for.

Each association has a thread that serves what the peer asks. A sender stops it while it waits for a response, but
pynetdicom 3.0 takes it for stopped a moment too early: on a busy machine it may still take one message, which is the
response. The sender then waits in vain, and sends again what the peer has already.
"""

import threading

from pynetdicom.association import Association

_LOOK_SECONDS = 0.05


class _Checkpoint(threading.Event):
    """Where the serving thread waits, and which tells when it does."""

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self.reached.set()
        return super().wait(timeout)


def make_pausable(association: Association) -> None:
    """Have `pause` work for an association of ours."""
    association._reactor_checkpoint = _Checkpoint()


def pause(association: Association) -> None:
    """Wait until the serving thread has stopped; what sends next goes on with it afterwards."""
    checkpoint = association._reactor_checkpoint
    if not isinstance(checkpoint, _Checkpoint):
        return
    checkpoint.reached.clear()
    checkpoint.clear()
    while not checkpoint.reached.wait(_LOOK_SECONDS):
        if not association.is_alive():
            return
