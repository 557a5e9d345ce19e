import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from unittest import mock

import pytest

from mammoscope.cli import main


@pytest.fixture
def command() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """``mammoscope ARGUMENTS`` in this process, where torch is imported once for all tests."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        words = ["mammoscope", *map(str, arguments)]
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.object(sys, "argv", words):
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    return run
