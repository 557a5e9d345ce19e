"""What a process and its child say to each other: a JSON object with arrays behind it as raw bytes, nothing that runs.

A message is its head (``b"MSG1"`` and the length of the JSON text, unsigned 32 bits, little-endian), a JSON object of
``fields`` and ``arrays`` (name, type and shape of each), and the bytes of the arrays in that order, C-contiguous and
little-endian. Whoever receives says how much it takes at most: a child that was taken over by what it read can send a
wrong answer, but none that fills the memory or is executed. What the fields must hold, its receiver checks.
"""

import contextlib
import json
import os
import signal
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_JSON_BYTES = 4 << 20
MOST_ARRAYS = 16
MOST_DIMENSIONS = 3

_MAGIC = b"MSG1"
_HEAD = struct.Struct("<4sI")
_TYPES = frozenset(("|u1", "<u2", "<i2", "<i4", "<i8", "<f4", "<f8"))


class ProtocolError(Exception):
    """The other end sent what is no message, or one that is too large."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message.

    Parameters
    ----------
    fields
        Of JSON's types, without NaN and infinity.
    arrays
        By name; of unsigned 8 and 16 bits, signed 16, 32 and 64 bits, or floating point, of three dimensions at most.
    """

    fields: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def send(stream: FileIO, message: Message) -> None:
    """Write one message to an unbuffered stream.

    Raises
    ------
    ValueError
        If a field or an array is of a type that messages do not have.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in message.arrays.items()}
    described = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    if unknown := [kind for _, kind, _ in described if kind not in _TYPES]:
        raise ValueError(f"a message has no arrays of the type {unknown[0]}")
    text = json.dumps({"fields": message.fields, "arrays": described}, allow_nan=False).encode()
    _write(stream, memoryview(_HEAD.pack(_MAGIC, len(text)) + text))
    for array in arrays.values():
        _write(stream, _bytes_of(array))


def receive(stream: FileIO, most_bytes: int) -> Message:
    """Read one message.

    Parameters
    ----------
    most_bytes
        Of all its arrays together; nothing of a message that announces more is kept.

    Raises
    ------
    EOFError
        If the other end is gone.
    ProtocolError
        If it is no message or announces more than is taken.
    """
    magic, length = _HEAD.unpack(_read(stream, bytearray(_HEAD.size)))
    if magic != _MAGIC or length > MOST_JSON_BYTES:
        raise ProtocolError("this is no message")
    fields, described = _parsed(_read(stream, bytearray(length)))
    if sum(array.nbytes for array in described.values()) > most_bytes:
        raise ProtocolError("the arrays of a message are larger than what is taken")
    arrays: dict[str, NDArray[Any]] = {}
    for name, announced in described.items():
        array = np.empty(announced.shape, announced.dtype)
        if array.nbytes:
            _read(stream, _bytes_of(array))
        arrays[name] = array
    return Message(fields, arrays)


def serve(prepare: Callable[[], tuple[Message, Callable[[Message], Message]]], most_bytes: int) -> None:
    """Answer requests until the standard input ends: what the ``main`` of a child's module does.

    Parameters
    ----------
    prepare
        Gives the greeting and what answers a request; a request has the field ``seconds``, after which nobody waits
        for the answer any more.
    most_bytes
        Of the arrays of a request.
    """
    requests, answers = _take_over_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who ends this process by closing its input
    warnings.simplefilter("ignore")  # they quote values, which may be the patient's
    greeting, answer = prepare()
    send(answers, greeting)
    while True:
        try:
            request = receive(requests, most_bytes)
        except EOFError:
            return
        with _alarm(float(request.fields["seconds"])):
            send(answers, answer(request))


@dataclass(frozen=True, slots=True)
class _Announced:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        size = self.dtype.itemsize
        for side in self.shape:  # Python's integers: no product of sides turns over
            size *= side
        return size


def _parsed(text: bytearray) -> tuple[dict[str, Any], dict[str, _Announced]]:
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant)
        fields, arrays = parsed["fields"], parsed["arrays"]
        described = {name: _Announced(_shape(shape), _dtype(kind)) for name, kind, shape in arrays}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError("this is no message") from error
    if (
        not isinstance(fields, dict)
        or not isinstance(arrays, list)
        or len(described) != len(arrays)
        or len(arrays) > MOST_ARRAYS
    ):
        raise ProtocolError("this is no message")
    return fields, described


def _refuse_constant(name: str) -> None:
    raise ValueError(f"a message has no {name}")


def _shape(sides: Any) -> tuple[int, ...]:
    if not isinstance(sides, list) or len(sides) > MOST_DIMENSIONS:
        raise ValueError("an array has the wrong number of dimensions")
    if not all(type(side) is int and 0 <= side < 1 << 40 for side in sides):
        raise ValueError("the side of an array is no number of elements")
    return tuple(sides)


def _dtype(kind: Any) -> np.dtype[Any]:
    if kind not in _TYPES:
        raise ValueError("an array is of an unknown type")
    return np.dtype(str(kind))


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _write(stream: FileIO, data: memoryview) -> None:
    while data.nbytes:
        data = data[stream.write(data) :]


def _read(stream: FileIO, into: bytearray | memoryview) -> Any:
    view = memoryview(into)
    while view.nbytes:
        got = stream.readinto(view)
        if not got:
            raise EOFError
        view = view[got:]
    return into


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
