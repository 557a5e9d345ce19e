import json
import struct
from pathlib import Path

import pytest

from mammoscope.training import TrainingError
from mammoscope.training.logger import Curves, read_curves


def record(iteration: int, loss: float = 1.0) -> dict:
    return {"iteration": iteration, "loss": loss}


def points(folder: Path) -> list[tuple[str, int, float]]:
    """(tag, step, value) of every point in TensorBoard's files, read by the format of its records."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)  # then 4 bytes of checksum, the event, 4 bytes more
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += 12 + size + 4
    return found


def test_records_come_back_in_their_order(tmp_path: Path):
    curves = Curves(tmp_path, 0)
    curves.add(record(10))
    curves.add({"iteration": 12, "validation": {"ap50": None}})

    assert read_curves(tmp_path) == [record(10), {"iteration": 12, "validation": {"ap50": None}}]


def test_what_the_run_will_write_again_is_taken_back(tmp_path: Path):
    curves = Curves(tmp_path, 0)
    for iteration in (10, 20, 30):
        curves.add(record(iteration))
    with (tmp_path / "curves.jsonl").open("a") as stream:
        stream.write('{"iteration": 40, "lo')  # cut short by a kill

    resumed = Curves(tmp_path, 20)
    assert read_curves(tmp_path) == [record(10), record(20)]
    resumed.add(record(30, loss=0.5))
    lines = (tmp_path / "curves.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [record(10), record(20), record(30, loss=0.5)]


def test_tensorboard_shows_every_number_once_also_after_a_kill(tmp_path: Path):
    pytest.importorskip("tensorboardX")
    curves = Curves(tmp_path, 0, tensorboard=True)
    curves.add({"iteration": 10, "loss": 2.0, "losses": {"classification": 1.5}, "minutes": 1})
    curves.add({"iteration": 12, "validation": {"ap50": 0.25, "f1": None, "froc": {"0.5": 0.75}}})
    curves.add(record(20))
    del curves  # killed: never closed

    resumed = Curves(tmp_path, 12, tensorboard=True)
    resumed.add(record(20, loss=0.5))
    resumed.close()
    assert sorted(points(tmp_path)) == [
        ("loss", 10, 2.0),
        ("loss", 20, 0.5),
        ("losses/classification", 10, 1.5),
        ("minutes", 10, 1.0),
        ("validation/ap50", 12, 0.25),
        ("validation/froc/0.5", 12, 0.75),
    ]


def test_without_being_asked_for_there_is_nothing_for_tensorboard(tmp_path: Path):
    Curves(tmp_path, 0).add(record(10))
    assert [path.name for path in tmp_path.iterdir()] == ["curves.jsonl"]


def test_curves_that_cannot_be_written_are_told(tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full, the disk that is always full")
    curves = Curves(tmp_path, 0)
    (tmp_path / "curves.jsonl").unlink()
    (tmp_path / "curves.jsonl").symlink_to("/dev/full")

    with pytest.raises(TrainingError, match=r"curves of .* could not be written \(No space left on device\)"):
        curves.add(record(1))


def test_tensorboard_without_its_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(TrainingError, match="needs the package tensorboardX: run pip install tensorboardX"):
        Curves(tmp_path, 0, tensorboard=True)
