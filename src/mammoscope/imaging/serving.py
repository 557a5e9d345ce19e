"""The other end of a `Child`: takes over the pipes, says that it is ready and answers one request after the other."""

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from io import FileIO
from typing import Any

from mammoscope.imaging.channel import receive, send


def serve(prepare: Callable[[], tuple[Any, Callable[[Any], Any]]]) -> None:
    """Answer requests until the standard input ends.

    Parameters
    ----------
    prepare
        Gives the greeting and what answers a request; a request has ``seconds``, after which nobody waits any more.
    """
    requests, answers = _take_over_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who ends this process by closing its input
    warnings.simplefilter("ignore")  # they quote values, which may be the patient's
    greeting, answer = prepare()
    send(answers, greeting)
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        with _alarm(request.seconds):
            send(answers, answer(request))


def _take_over_pipes() -> tuple[FileIO, FileIO]:
    """Keep the two pipes for messages only: decoders print, and what they print would garble an answer."""
    requests, answers = FileIO(os.dup(0), "rb"), FileIO(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    return requests, answers


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """End this process if it hangs when its caller is gone as well; a living caller kills it earlier."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds + 10)
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)
    else:
        yield
