"""A log that cannot be written ends nothing."""

import contextlib
import sys

import pytest
import structlog

from mammoscope.logging import configure_logging


@pytest.fixture(autouse=True)
def restored():
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_lines_are_json_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    structlog.get_logger("x").warning("what happened", study="1.2\n3")
    assert capsys.readouterr().err.startswith('{"study": "1.2\\\\n3", "event": "what happened", "level": "warning", ')


def test_a_full_disk_below_the_log_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, it ended the thread that wanted to tell of the full disk, the scheduler's among them."""
    configure_logging()
    full = open("/dev/full", "w", buffering=1)  # noqa: PTH123, SIM115  # closing it fails too
    with pytest.raises(OSError, match="No space left"):
        full.write("a line\n")
    monkeypatch.setattr(sys, "stderr", full)
    structlog.get_logger("x").warning("disk nearly full, nothing is taken")
    monkeypatch.undo()
    with contextlib.suppress(OSError):
        full.close()
