"""A system that takes HL7 by MLLP: the library's own server, which answers as it is told to."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hl7
from hl7.mllp import HL7StreamReader, HL7StreamWriter, start_hl7_server


@contextmanager
def listener(
    answer: Callable[[hl7.Message], object], context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[hl7.Message]]]:
    """A listener; its port, and what it got."""
    got: list[hl7.Message] = []
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def serve(reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        try:
            got.append(await reader.readmessage())
        except asyncio.IncompleteReadError:
            writer.close()
            return
        said = answer(got[-1])
        if isinstance(said, hl7.Message):
            writer.writemessage(said)
        elif isinstance(said, bytes):
            writer.write(said)
        if said is not None:
            writer.close()

    async def start() -> asyncio.Server:
        return await start_hl7_server(serve, "127.0.0.1", 0, encoding="utf-8", ssl=context)

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(start())
        port.append(server.sockets[0].getsockname()[1])
        ready.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    port: list[int] = []
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield port[0], got
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
