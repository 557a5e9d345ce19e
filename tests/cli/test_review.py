"""``mammoscope readers`` and what ``mammoscope review`` refuses."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError
from mammoscope.review import Accounts, ReviewStore, Role


def test_accounts_are_added_disabled_and_listed(tmp_path: Path):
    runner = CliRunner()

    def readers(*words: str, typed: str = "") -> str:
        done = runner.invoke(app, ["readers", words[0], str(tmp_path), *words[1:]], input=typed, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    readers("add", "anna", "--role", "admin", "--password-stdin", typed="correct horse\n")
    assert "anna\tadmin" in readers("list")
    accounts = Accounts(ReviewStore(tmp_path / "review").database)
    user = accounts.authenticate("anna", "correct horse")
    assert user is not None
    assert user.role is Role.ADMIN
    readers("disable", "anna")
    assert "disabled" in readers("list")
    assert accounts.authenticate("anna", "correct horse") is None
    assert (tmp_path / "review" / "review.sqlite").stat().st_mode & 0o077 == 0
    for words, why in (
        (("add", "anna", "--password-stdin"), "already"),
        (("add", "b^c", "--password-stdin"), "a name has"),
        (("password", "nobody", "--password-stdin"), "no user"),
        (("add", "bert", "--role", "king", "--password-stdin"), "a role is one of"),
    ):
        with pytest.raises(MammoscopeError, match=why):
            runner.invoke(
                app, ["readers", words[0], str(tmp_path), *words[1:]], input="long enough\n", catch_exceptions=False
            )


def test_what_cannot_be_read_or_exported_is_said(tiny_dataset: Path, tmp_path: Path):
    runner, dataset = CliRunner(), tmp_path / "dataset"
    shutil.copytree(tiny_dataset, dataset)  # a reading room keeps its things in the data set's folder
    for words, why in (
        ([str(tmp_path)], "not a data set's folder"),
        ([str(dataset), "--second-reader", "deaf"], "none, blind or open"),
        ([str(dataset), "--export", str(tmp_path / "out")], "no study was read"),
    ):
        with pytest.raises(MammoscopeError, match=why):
            runner.invoke(app, ["review", *words], catch_exceptions=False)
