"""Trackers: what they get, and that a training outlives them. MLflow and W&B themselves were tried by hand."""

import importlib.util
import logging
import struct
from pathlib import Path

import pytest

pytest.importorskip("torch")

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, TensorBoardTracker

from mammoscope.training import TrainingError, load_recipe
from mammoscope.training.logger import Curves
from mammoscope.training.trackers import Trackers, start_trackers

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")

RECORDS = (
    {"iteration": 10, "loss": 2.0, "losses": {"classes": 1.5}},
    {"iteration": 12, "validation": {"ap50": 0.5, "map50": None}},
)


class Failing(GeneralTracker):
    name = "failing"
    requires_logging_directory = False
    tracker = None

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def store_init_configuration(self, values):
        pass

    def log(self, values, step=None, **keywords):  # noqa: ARG002
        self.calls += 1
        raise ConnectionError("no route to host")


def points(folder: Path) -> list[tuple[str, int, float]]:
    """(name, step, value) of every point in TensorBoard's files, read by the format of its records."""
    found = []
    for file in sorted(folder.rglob("events*")):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += 12 + size + 4
    return found


def test_a_tracker_gets_every_number_and_one_that_fails_is_left_out(tmp_path: Path, caplog):
    Accelerator()
    failing, board = Failing(), TensorBoardTracker("run", logging_dir=tmp_path / "board")
    board.start()
    before = Curves(tmp_path, 0)
    before.add(RECORDS[0])
    curves = Curves(tmp_path, 10, trackers=Trackers([failing, board]))  # a run that goes on
    with caplog.at_level(logging.WARNING):
        curves.add(RECORDS[1])
    curves.close()
    assert points(tmp_path / "board") == [("loss", 10, 2.0), ("losses/classes", 10, 1.5), ("validation/ap50", 12, 0.5)]
    assert failing.calls == 1
    assert "tracker failing failed (ConnectionError: no route to host)" in caplog.text


def test_no_tracker_unless_asked_for_and_one_that_is_not_installed_is_told_of(tiny_recipe, tmp_path: Path, monkeypatch):
    plain = load_recipe(tiny_recipe(tmp_path / "run"))
    assert plain.run.trackers == ()
    start_trackers(plain, None).add(RECORDS[0])  # needs no accelerator, as there is nothing to begin
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    asked = load_recipe(tiny_recipe(tmp_path / "run", run__trackers=["mlflow", "wandb"]))
    with pytest.raises(TrainingError, match="needs the package mlflow and wandb: run pip install mlflow wandb"):
        start_trackers(asked, None)
    with pytest.raises(TrainingError, match=r"run\.trackers"):
        load_recipe(tiny_recipe(tmp_path / "run", run__trackers=["mlfow"]))
