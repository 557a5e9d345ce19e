"""`mammoscope import-detectron2` and `import-checkpoint`: what a user is told."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError

pytest.importorskip("torch")


@pytest.mark.parametrize("command", ["import-detectron2", "import-checkpoint"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threshold", "0.5"], "give its configuration with --config"),
        (["--threshold", "0.5", "--config", "none.yaml"], "none.yaml cannot be read"),
        (["--threshold", "0.5", "--layout", "yolo"], "--layout is one of"),
        ([], "give --threshold, or --dataset"),
    ],
)
def test_one_sentence_says_what_is_wrong(command: str, options: list[str], said: str, tmp_path: Path):
    checkpoint = tmp_path / "model_final.pth"
    torch.save({"model": {"backbone.bottom_up.stem.conv1.weight": torch.zeros(64, 3, 7, 7)}}, checkpoint)
    done = CliRunner().invoke(app, [command, str(checkpoint), "--out", str(tmp_path / "my.onnx"), *options])

    # main() turns the error into its sentence and exit code 2.
    assert isinstance(done.exception, MammoscopeError)
    assert said in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["model_final.pth"]


def test_a_threshold_beyond_one_is_bad_usage(tmp_path: Path):
    arguments = ["import-detectron2", "model_final.pth", "--out", str(tmp_path / "my.onnx"), "--threshold", "7"]

    assert CliRunner().invoke(app, arguments).exit_code == 2
