"""Messages between `MammogramReader` and its decoder process.

A message is a pickle with its arrays behind it as raw bytes (pickle protocol 5, out of band), so that pixels are
copied once, into their place. Both ends are this same program on this same machine, which is why pickle will do.

The other end of a `Child`: takes over the pipes, says that it is ready and answers one request after the other.
"""

import contextlib
import os
import pickle
import signal
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Request:
    """Read the file at ``path``; ``seconds`` after which nobody waits for the answer any more.

    With ``header`` only its DICOM attributes are wanted, without pixel data: those of ``keywords``, or all.
    """

    path: Path
    name: str
    seconds: float
    header: bool = False
    keywords: tuple[str, ...] = ()


def send(stream: FileIO, message: Any) -> None:
    """Write one message to an unbuffered stream."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    raws = [buffer.raw() for buffer in buffers]
    _write(stream, memoryview(_LENGTH.pack(len(raws))))
    for part in (memoryview(body), *raws):
        _write(stream, memoryview(_LENGTH.pack(part.nbytes)))
        _write(stream, part)


def receive(stream: FileIO) -> Any:
    """Read one message.

    Raises
    ------
    EOFError
        If the other end is gone.
    """
    (buffers,) = _LENGTH.unpack(_read(stream, _LENGTH.size))
    parts = [_read(stream, _LENGTH.unpack(_read(stream, _LENGTH.size))[0]) for _ in range(buffers + 1)]
    return pickle.loads(parts[0], buffers=parts[1:])


def _write(stream: FileIO, data: memoryview) -> None:
    data = data.cast("B")
    while data.nbytes:
        data = data[stream.write(data) :]


def _read(stream: FileIO, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while view.nbytes:
        got = stream.readinto(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data


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
