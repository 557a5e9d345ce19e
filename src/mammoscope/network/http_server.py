"""`WebService`: a web server of ours, in a thread of its own, made safe against clients that are slow or silent."""

import asyncio
import os
import socket
import threading
from collections import Counter
from collections.abc import Sequence

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from uvicorn.protocols.http.h11_impl import H11Protocol

from mammoscope.lifecycle import Running
from mammoscope.network.access_control import network_of
from mammoscope.network.errors import ServiceError
from mammoscope.network.tls import TLSConfig

MOST_WAITING = 100
"""Connections without a whole request; beyond them the oldest of whoever has most is answered 408 and closed."""
REQUEST_SECONDS = 60.0
"""By then the head of a request must be there as a whole, however it drips, or it is answered 408."""
GRACE_SECONDS = 10
_WORDS = b"the request did not come in time\n"
TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_WORDS), _WORDS)
)


class _GuardedProtocol(H11Protocol):
    """A connection whose requests must come in time; uvicorn itself waits for ever, or for whoever drips."""

    transport: asyncio.Transport
    _request_timer: asyncio.TimerHandle | None = None
    waits_since = 0.0
    """Time of the event loop since when a request is awaited."""

    @property
    def is_waiting(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.is_waiting:
            self._stop_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.is_waiting and not self.transport.is_closing():
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def give_up(self) -> None:
        """Tell the client that its request did not come in time, and close."""
        if self.transport.is_closing() or not self.is_waiting:
            return
        if self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE:
            self.transport.write(TOO_LATE)
        self.transport.close()
        self.connections.discard(self)

    def _await_request(self) -> None:
        self._stop_timer()
        self.waits_since = self.loop.time()
        self._request_timer = self.loop.call_later(REQUEST_SECONDS, self.give_up)

    def _stop_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _make_room(self) -> None:
        waiting = [c for c in self.connections if isinstance(c, _GuardedProtocol) and c.is_waiting]
        if len(waiting) <= MOST_WAITING:
            return
        networks = {c: network_of(c.client[0] if c.client else "") for c in waiting}
        [(most, _)] = Counter(networks.values()).most_common(1)
        min((c for c in waiting if networks[c] == most and c is not self), key=lambda c: c.waits_since).give_up()


class WebService(Running):
    """Serves ``routes`` by HTTP, or by https if ``tls`` is given, while it is started.

    An endpoint that is a plain function runs in a pool of threads and may block; a coroutine must not.

    Parameters
    ----------
    host, port
        Address to listen on; port 0 takes a free one, see `port`.
    routes
        Starlette's.

    Examples
    --------
    >>> with WebService("127.0.0.1", 0, [Route("/healthz", healthy)]) as service:  # doctest: +SKIP
    ...     print(service.url)
    """

    def __init__(self, host: str, port: int, routes: Sequence[BaseRoute], tls: TLSConfig | None = None) -> None:
        self._host = host
        self._app = Starlette(routes=list(routes))
        self._tls = tls
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None
        self.port = port
        """The port listened on; the real one once started with port 0."""

    @property
    def url(self) -> str:
        """Where it is reached, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def start(self) -> None:
        """Listen; requests are answered when this returns.

        Raises
        ------
        ServiceError
            If the address cannot be listened on.
        TLSConfigError
            If the certificate or its key cannot be used.
        """
        config = uvicorn.Config(
            self._app,
            http=_GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        config.load()
        config.ssl = self._tls.serving_https() if self._tls else None
        # Bound here and not by uvicorn, which would end the process where the port is taken.
        self._listener = listener = self._listen()
        self.port = listener.getsockname()[1]
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no new request and let the running ones end for a while."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(2 * GRACE_SECONDS)
        if self._listener is not None:  # uvicorn closes it, but not when it is stopped before it has begun
            self._listener.close()
        self._server = self._thread = self._listener = None

    def _listen(self) -> socket.socket:
        try:
            [(family, *_, address), *_] = socket.getaddrinfo(
                self._host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            return socket.create_server(address[:2], family=family, backlog=128)
        except OSError as error:
            # create_server adds the address to an error's words; an unknown name's error has a number below 0.
            words = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            raise ServiceError(
                f"cannot listen on {self._host} port {self.port} for the web: {words}; choose a free port and an"
                " address of this machine"
            ) from None
