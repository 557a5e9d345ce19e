"""The studies that viewers are shown, and where a viewer's program is or why it is not."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import viewer_cases  # noqa: E402


@pytest.fixture(scope="session")
def make_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], viewer_cases.Case]:
    """One of the cases by its name, made once."""
    folder, made = tmp_path_factory.mktemp("cases"), {}

    def make(name: str) -> viewer_cases.Case:
        if name not in made:
            made[name] = viewer_cases.make_case(name, folder / name.replace(" ", "-"))
        return made[name]

    return make


def missing(reason: str) -> None:
    """Skip, or fail in CI, where everything is."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Path of a program."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"{name} is not installed")
        return str(path)

    return find
