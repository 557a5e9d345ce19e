"""Messages between `MammogramReader` and its decoder process.

A message is a pickle with its arrays behind it as raw bytes (pickle protocol 5, out of band), so that pixels are
copied once, into their place. Both ends are this same program on this same machine, which is why pickle will do.
"""

import pickle
import struct
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
