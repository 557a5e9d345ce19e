"""What a node's receiving is to a puller, as a process of its own: ``python run_intake.py node.toml``.

It writes a line of JSON for each object: study, calling title, originator, object. With sources to poll it polls them.
"""

import json
import signal
import sys
import threading
from pathlib import Path

from mammoscope.network import Receipt, ReceivedObject, StorageService
from mammoscope.node.db.repository import Records
from mammoscope.node.retrieve.archives import node_pollers
from mammoscope.settings import load_node_settings


def main() -> None:
    settings = load_node_settings(Path(sys.argv[1]))
    node = settings.node
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def receive(received: ReceivedObject) -> Receipt:
        marks = (received.calling_ae_title, received.move_originator)
        line = [received.study_instance_uid, *marks, received.sop_instance_uid]
        with (node.storage / "received").open("a") as file:
            file.write(json.dumps(line) + "\n")
        return Receipt.STORED

    node.storage.mkdir()
    service = StorageService(node.ae_title, node.storage / "incoming", receive, port=node.port)
    with service, Records.open(node.storage) as records:
        for poller in node_pollers(settings, receive, records, stop):
            poller.start()
        (node.storage / "received").touch()
        stop.wait()


if __name__ == "__main__":
    main()
