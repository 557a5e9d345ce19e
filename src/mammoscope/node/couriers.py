"""How each destination of the settings is sent to."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mammoscope.network import Destination, Sending, ServiceError, StorageClient
from mammoscope.node.delivery import Send
from mammoscope.settings import DestinationSettings, NodeSettings


def sender_for(destination: DestinationSettings, settings: NodeSettings) -> Send:
    """What sends to a destination.

    Raises
    ------
    ServiceError
        If the settings do not say how.
    """
    if destination.ae_title is None or destination.host is None or destination.port is None:
        raise ServiceError(f"the destination '{destination.name}' has no AE title, host and port to send to")
    peer = Destination(destination.name, destination.ae_title, destination.host, destination.port)
    client = StorageClient(settings.node.ae_title)

    def send(files: Sequence[Path], on_sent: Callable[[str], None]) -> tuple[Sending, ...]:
        return client.send(files, peer, on_sent)

    return send
