"""`ReviewService`: a reading room on an address."""

from starlette.routing import Mount

from mammoscope.lifecycle import Running
from mammoscope.network import ServiceError, WebService
from mammoscope.network.tls import TLSConfig
from mammoscope.review.access import is_local
from mammoscope.review.app import make_app
from mammoscope.review.room import ReadingRoom


class ReviewService(Running):
    """Serves a reading room while it is started, and starts and stops the room with it.

    Parameters
    ----------
    host, port
        Address to listen on; port 0 takes a free one, see `url`.
    tls
        To serve https.
    behind_https
        Whether a proxy serves https for us.

    Examples
    --------
    >>> with ReviewService(room) as service:  # doctest: +SKIP
    ...     print(service.url)
    """

    def __init__(
        self,
        room: ReadingRoom,
        host: str = "127.0.0.1",
        port: int = 8090,
        *,
        tls: TLSConfig | None = None,
        behind_https: bool = False,
    ) -> None:
        self._room = room
        self._host = host
        self._web = WebService(host, port, [Mount("/", make_app(room, secure=behind_https or tls is not None))], tls)

    @property
    def url(self) -> str:
        """Where it is reached, without a slash at the end."""
        return self._web.url

    def start(self) -> None:
        """Start the room and listen.

        Raises
        ------
        ServiceError
            If the address cannot be listened on, or is not this machine's own and there are no accounts.
        """
        if not is_local(self._host) and not self._room.accounts.exist():
            raise ServiceError(
                f"the reading room is not shown on {self._host} without accounts: add users with"
                " 'mammoscope readers add', or listen on 127.0.0.1"
            )
        self._room.start()
        try:
            self._web.start()
        except BaseException:
            self._room.stop()
            raise

    def stop(self) -> None:
        """Stop listening, then the room."""
        self._room.end_streams()
        self._web.stop()
        self._room.stop()
