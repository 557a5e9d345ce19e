"""`mammoscope model-card` of the shipped bundle."""

import json

import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError
from mammoscope.evaluation import ImageResult, evaluate
from mammoscope.findings import Box, Finding
from mammoscope.inference import Bundle

A = Box(0, 0, 10, 10)


@pytest.fixture
def metrics(tmp_path):
    metadata = Bundle.open().metadata
    found = [ImageResult(n, str(n), (A,), (Finding(A, 0.9),)) for n in range(3)]
    of = {"model": metadata.name, "model_version": metadata.version}
    (tmp_path / "metrics.json").write_text(json.dumps(evaluate(found, 0.3, "", resamples=5, **of).to_json()))
    return tmp_path / "metrics.json"


def run(*arguments):
    return CliRunner().invoke(app, ["model-card", *map(str, arguments)])


def test_a_card_with_the_runs_recipe_and_caveats(metrics, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": {"schedule": {"batch": 8}}}))
    (tmp_path / "caveats.md").write_text("- Only film.\n")
    result = run(metrics, "--run", tmp_path, "--caveats", tmp_path / "caveats.md", "--out", tmp_path / "model.md")
    assert result.exit_code == 0, result.output
    card = (tmp_path / "model.md").read_text(encoding="utf-8")
    assert card.startswith(f"# Model card: {Bundle.open().metadata.name}\n")
    assert "| `schedule.batch` | 8 |" in card
    assert "- Only film." in card


def test_bad_use(metrics, tmp_path):
    (tmp_path / "times.json").write_text("[]")
    for arguments, said in (
        ((tmp_path / "none",), "does not hold the figures"),
        ((metrics, "--speed", tmp_path / "times.json"), "does not hold times"),
        ((metrics, "--speed", tmp_path / "none.json"), "cannot be read as text"),
        ((metrics, "--caveats", tmp_path), "cannot be read as text"),
        ((metrics, "--run", tmp_path), "is not the folder of a run"),
        ((metrics, "--bundle", tmp_path / "times.json"), "is not a model that can be run"),
        ((metrics, "--out", tmp_path / "none" / "model.md"), "cannot be written"),
    ):
        error = run(*arguments).exception
        assert isinstance(error, MammoscopeError), arguments
        assert said in str(error)
