import subprocess
from pathlib import Path

import pytest
import torch

from mammoscope import __version__
from mammoscope.training.checkpoint import code_version, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout" / "src" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    git(tmp_path / "checkout", "init", "--quiet")
    git(tmp_path / "checkout", "add", ".")
    git(tmp_path / "checkout", "commit", "--quiet", "-m", "first")
    return folder


def test_a_checkout_is_known_by_its_commit(package: Path):
    commit = git(package, "rev-parse", "HEAD")
    assert len(commit) == 40
    assert code_version(package) == {"commit": commit, "modified": False}

    (package / "__init__.py").write_text("changed = True")
    assert code_version(package) == {"commit": commit, "modified": True}


def test_a_new_file_in_the_package_is_a_modification_and_one_elsewhere_is_none(package: Path):
    (package.parents[1] / "notes.txt").write_text("")
    assert code_version(package)["modified"] is False
    (package / "new.py").write_text("")
    assert code_version(package)["modified"] is True


def test_an_installed_copy_inside_a_checkout_is_not_that_checkout(package: Path):
    installed = package.parents[1] / ".venv" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")

    assert code_version(installed) == {}


def test_outside_of_any_checkout_there_is_no_commit(tmp_path: Path):
    (tmp_path / "__init__.py").write_text("")
    assert code_version(tmp_path) == {}


def test_a_start_is_noted_without_names_or_paths():
    facts = provenance(torch.device("cpu"), 2)

    assert facts["mammoscope"] == __version__
    assert (facts["device"], facts["processes"]) == ("cpu", 2)
    assert facts["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["cores"] >= 1
    assert str(Path.home()) not in str(facts)
    assert "/" not in str(facts)
