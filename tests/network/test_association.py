import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydicom import FileDataset
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider

from mammoscope.network import Destination, StorageClient


def test_a_slow_thread_takes_no_response_from_the_sender(
    destination: Destination, receiver: Any, make_object: Callable[..., FileDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait, look = threading.Event.wait, DIMSEServiceProvider.get_msg

    def wait_and_dawdle(self: threading.Event, timeout: float | None = None) -> bool:
        came = wait(self, timeout)
        thread = threading.current_thread()
        if isinstance(thread, Association) and thread.is_requestor and timeout is None:
            time.sleep(0.2)  # as on a busy machine, between being let go on and going on
        return came

    def look_late(self: DIMSEServiceProvider, block: bool = False) -> Any:
        if self.assoc.is_requestor and block:
            time.sleep(0.5)
        return look(self, block)

    monkeypatch.setattr(threading.Event, "wait", wait_and_dawdle)
    monkeypatch.setattr(DIMSEServiceProvider, "get_msg", look_late)
    objects = [make_object() for _ in range(4)]
    sendings = StorageClient("MODALITY", timeout_seconds=5.0).send(objects, destination)

    assert [sending.error for sending in sendings] == [None] * 4
    assert len(receiver.received) == 4
