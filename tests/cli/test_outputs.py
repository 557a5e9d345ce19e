"""One rule for what is there already: refused, or replaced with --force; never what another program made."""

import json
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.cli.outputs import new_parts
from mammoscope.datasets import load_dataset
from mammoscope.errors import MammoscopeError

ADDS_TO_WHAT_IS_THERE = {"pull", "deidentify"}
REPLACES_ITS_OWN_ALONE = {"demo"}


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def commands(group, name=""):
    for key, command in group.commands.items():
        if isinstance(command, click.Group) or hasattr(command, "commands"):
            yield from commands(command, f"{name} {key}")
        else:
            yield f"{name} {key}".strip(), command


def test_whatever_writes_has_force():
    writers = {}
    for name, command in commands(typer.main.get_command(app)):
        options = {option for parameter in command.params for option in parameter.opts}
        if (
            options & {"--out", "--export"}
            or name == "dataset audit"
            or "out" in {parameter.name for parameter in command.params}
        ):
            writers[name.rpartition(" ")[2]] = "--force" in options
    without = {name for name, force in writers.items() if not force}
    assert without == ADDS_TO_WHAT_IS_THERE | REPLACES_ITS_OWN_ALONE
    assert len(writers) > 25


def test_a_data_set_is_replaced_with_force_and_the_old_word_still_does_with_a_notice(tiny_dataset, tmp_path):
    out = tmp_path / "out"
    few = ("dataset", "filter", tiny_dataset, "--where", "split == 'val'", "--out", out)
    assert run(*few).exit_code == 0
    refused = run("dataset", "filter", tiny_dataset, "--where", "split == 'train'", "--out", out)
    assert "is there already: choose another --out, or replace it with --force." in str(refused.exception)
    assert len(load_dataset(out)) == 4
    for word, told in (("--force", ""), ("--overwrite", "--overwrite is now called --force")):
        done = run("dataset", "filter", tiny_dataset, "--where", "split == 'train'", "--out", out, word)
        assert (done.exit_code, len(load_dataset(out))) == (0, 8)
        assert told in done.stderr
        assert bool(done.stderr.strip()) == bool(told)
    assert "--overwrite" not in run("dataset", "filter", "--help").output


def test_a_card_and_an_audit_stay_unless_they_are_to_be_replaced(tiny_dataset, tmp_path):
    for command, option, file in (("card", "--out", tmp_path / "c.md"), ("audit", "--report", tmp_path / "a.html")):
        file.write_text("somebody's")
        refused = run("dataset", command, tiny_dataset, option, file)
        assert f"is there already: name another with {option}, or replace it with --force." in str(refused.exception)
        assert file.read_text() == "somebody's"
    assert run("dataset", "card", tiny_dataset, "--out", tmp_path / "c.md", "--force").exit_code == 0
    assert len((tmp_path / "c.md").read_text()) > 200


@pytest.mark.parametrize("kind", ["coco", "csv", "detectron2", "voc", "yolo"])
def test_an_export_is_replaced_and_nothing_else_is(kind, tiny_dataset, tmp_path):
    out = tmp_path / "out"
    export = ("dataset", "export", tiny_dataset, "--format", kind, "--out", out)
    assert run(*export).exit_code == 0
    assert "or replace it with --force" in str(run(*export).exception)
    assert run(*export, "--split", "val", "--force").exit_code == 0
    assert len(list(out.rglob("*.png"))) == 4
    (out / "thesis.tex").write_text("x")
    assert "is there already and is not an export" in str(run(*export, "--force").exception)
    assert (out / "thesis.tex").is_file()


def test_an_export_never_replaces_a_data_set(tiny_dataset, tmp_path):
    out = tmp_path / "set"
    run("dataset", "filter", tiny_dataset, "--where", "n_boxes >= 0", "--out", out)
    refused = run("dataset", "export", tiny_dataset, "--format", "coco", "--out", out, "--force")
    assert "is not an export" in str(refused.exception)
    assert len(load_dataset(out)) == 12


def test_readings_make_room_for_their_own_alone(tmp_path: Path):
    parts = ("pictures", "objects")
    (tmp_path / "input.dcm").write_text("x")
    new_parts(tmp_path, "readings.json", parts, force=False)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(MammoscopeError, match=r"holds pictures and no readings\.json"):
        new_parts(tmp_path, "readings.json", parts, force=True)
    (tmp_path / "readings.json").write_text(json.dumps([]))
    (tmp_path / "pictures/old.png").write_text("x")
    with pytest.raises(MammoscopeError, match=r"holds readings\.json already: .* --force"):
        new_parts(tmp_path, "readings.json", parts, force=False)
    new_parts(tmp_path, "readings.json", parts, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["input.dcm"]
