"""The channel is told whatever a child that was taken over might say."""

import io
import json
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from mammoscope.subprocesses import Message, ProtocolError
from mammoscope.subprocesses.protocol import receive, send


class Pipe(io.BytesIO):
    """A stream of raw bytes, as the two ends see it."""


def told(data: bytes, most_bytes: int = 1 << 20) -> Message:
    return receive(Pipe(data), most_bytes)


def message(fields: object, arrays: object, body: bytes = b"") -> bytes:
    text = json.dumps({"fields": fields, "arrays": arrays}).encode()
    return struct.pack("<4sI", b"MSG1", len(text)) + text + body


def test_what_is_sent_is_what_is_received() -> None:
    pipe = Pipe()
    arrays = {
        "pixels": np.arange(12, dtype=np.uint16).reshape(3, 4)[:, ::2],
        "none": np.zeros((0, 4), np.float32),
        "labels": np.array([-1, 2], np.int64),
    }
    send(pipe, Message({"name": "ÄÖ", "spacing": [0.07, 0.07], "view": None}, arrays))
    received = told(pipe.getvalue())
    assert received.fields == {"name": "ÄÖ", "spacing": [0.07, 0.07], "view": None}
    assert {name: (a.dtype, a.tolist()) for name, a in received.arrays.items()} == {
        name: (a.dtype, a.tolist()) for name, a in arrays.items()
    }


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps({"fields": {}}),
        message([], []),
        message({}, {}),
        message({}, [["a", "|O", [1]]], bytes(8)),
        message({}, [["a", "<u2", [-1]]]),
        message({}, [["a", "<u2", [True]]]),
        message({}, [["a", "<u2", [1, 1, 1, 1]]]),
        message({}, [["a", "<u2", "11"]]),
        message({}, [["a", "<u2", [1]], ["a", "<u2", [1]]], bytes(4)),
        message({}, [[f"a{n}", "<u2", [0]] for n in range(17)]),
        message({}, [["a", "<u2", [1 << 30, 1 << 30]]]),
        message({}, [["a", "<u2", [1 << 39, 1 << 39, 1 << 39]]]),
        message({"score": float("nan")}, []),
        struct.pack("<4sI", b"MSG1", 0xFFFFFFFF),
        struct.pack("<4sI", b"MSG1", 200_000) + b"[" * 200_000,
        struct.pack("<4sI", b"MSG1", 4) + b"null",
    ],
)
def test_what_is_no_message_is_refused_before_memory_is_asked_for(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            told(data)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_message_that_breaks_off_is_the_end() -> None:
    whole = message({}, [["a", "<u2", [4]]], bytes(8))
    for length in range(len(whole)):
        with pytest.raises(EOFError):
            told(whole[:length])


def test_nothing_but_plain_types_is_sent() -> None:
    with pytest.raises(ValueError, match="no arrays of the type"):
        send(Pipe(), Message({}, {"a": np.array([None])}))
    with pytest.raises(ValueError, match="JSON"):
        send(Pipe(), Message({"score": float("inf")}))
    with pytest.raises(TypeError):
        send(Pipe(), Message({"path": os}))  # type: ignore[dict-item]
