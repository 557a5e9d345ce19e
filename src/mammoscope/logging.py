"""The node's log: one JSON object a line, UIDs only."""

import contextlib
import logging
import sys
import warnings

import structlog
from structlog.typing import EventDict, WrappedLogger

from mammoscope.errors import where_raised
from mammoscope.untrusted_text import cleaned

__all__ = ["configure_logging", "where_raised"]


def configure_logging() -> None:
    """Write the node's events to standard error as JSON lines, and silence libraries that quote patients' data."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _clean,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=_lines_to_standard_error,
        cache_logger_on_first_use=False,
    )
    _silence_libraries()


def _clean(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: cleaned(value) for key, value in event.items()}


class _Lines:
    """Writes a log line as `structlog.PrintLogger` does, and is silent where that fails.

    A log on a full disk must not end the thread that wants to say that the disk is full.
    """

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{message}\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = exception = log = msg


def _lines_to_standard_error(*_: object) -> _Lines:
    return _Lines()


def configure_no_logging() -> None:
    """Write no log at all, for a command that tells a person all there is to tell."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    _silence_libraries()


def _silence_libraries() -> None:
    # Both quote attribute values, such as a malformed patient's name, in what they say.
    for library in ("pydicom", "pynetdicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")
