"""The listener that writes each event as a line of the node's log."""

from dataclasses import asdict

import structlog

from mammoscope.node.events import (
    Event,
    ImageRead,
    ImagesRemoved,
    Listener,
    ObjectReceived,
    ReportParked,
    ReportSent,
    SendingFailed,
    StudyFailed,
    StudyRead,
)
from mammoscope.node.log import where_raised

_WORDS: dict[type[Event], tuple[str, str]] = {
    ImageRead: ("info", "image read"),
    ImagesRemoved: ("info", "images removed"),
    ReportParked: ("error", "results not sent"),
    ReportSent: ("info", "results sent"),
    SendingFailed: ("warning", "results not sent yet"),
    StudyFailed: ("error", "study failed"),
    StudyRead: ("info", "study read"),
}
"""Level and event of the log; who is refused, the network's own log tells."""

log = structlog.get_logger(__name__)


def log_event(event: Event) -> None:
    """Write an event to the log."""
    facts = {name: value for name, value in asdict(event).items() if value is not None}
    del facts["at"]  # the log has its own
    if isinstance(event, ObjectReceived) and event.outcome != "refused":
        log.info(f"object {event.outcome}", **facts)
    elif type(event) in _WORDS:
        level, words = _WORDS[type(event)]
        getattr(log, level)(words, **facts)


class Announcer:
    """Tells every listener of each event. A listener that fails keeps nothing from the others."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def __call__(self, event: Event) -> None:
        """Tell it."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:
                log.warning("listener failed", event_kind=type(event).__name__, error=where_raised(error))
