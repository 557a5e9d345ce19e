"""`WebService`: a web server of ours, in a thread of its own."""

import os
import socket
import threading
from collections.abc import Sequence
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from mammoscope.network.errors import ServiceError
from mammoscope.network.tls import TLSConfig

MOST_CONNECTIONS = 100
"""More at once are answered 503."""
GRACE_SECONDS = 10


class WebService:
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
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        config.load()
        config.ssl = self._tls.serving_https() if self._tls else None
        # Bound here and not by uvicorn, which would end the process where the port is taken.
        listener = self._listen()
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
        self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

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
