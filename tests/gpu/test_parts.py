"""Archives cut into parts under limits, sent over several commands, damaged, and joined."""

import json
from pathlib import Path

import numpy as np
import pytest
from parts import Limits, Outbox, PartsError, join


def noise(path: Path, size: int, seed: int = 0) -> Path:
    """A file that no compression makes smaller."""
    path.write_bytes(np.random.default_rng(seed).bytes(size))
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return noise(tmp_path / "weights.pt", 25_000)


LIMITS = Limits(files=5, part_bytes=10_000, total_bytes=1_000_000)


def parts_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "manifest.json")


def test_what_was_cut_is_joined_byte_for_byte(tmp_path: Path, weights: Path):
    outbox = Outbox(tmp_path / "out", tmp_path / "memory", LIMITS)
    outbox.put("best", 1, {"slim.pt": weights, "validation/report.md": noise(tmp_path / "r", 100, 1)})

    sizes = [(tmp_path / "out" / name).stat().st_size for name in parts_in(tmp_path / "out")]
    assert sizes[:2] == [10_000, 10_000]
    assert len(sizes) == 3
    assert outbox.waiting == 0
    joined = join([tmp_path / "out"], tmp_path / "home")
    assert (joined.whole, joined.broken) == (("best",), {})
    assert (tmp_path / "home" / "best" / "slim.pt").read_bytes() == weights.read_bytes()
    assert (tmp_path / "home" / "best" / "validation" / "report.md").stat().st_size == 100
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["best"]


def test_what_finds_no_room_comes_with_the_next_command(tmp_path: Path, weights: Path):
    small = Limits(files=4, part_bytes=10_000, total_bytes=1_000_000)  # the manifest, a draft and two parts
    first = Outbox(tmp_path / "out-1", tmp_path / "memory", small)
    first.put("best", 1, {"slim.pt": weights})
    assert len(parts_in(tmp_path / "out-1")) == 2
    assert first.waiting == 1
    assert join([tmp_path / "out-1"], tmp_path / "home").broken == {"best": "part 3 of 3 is missing or damaged"}

    second = Outbox(tmp_path / "out-2", tmp_path / "memory", small)
    assert len(parts_in(tmp_path / "out-2")) == 1
    assert second.waiting == 0
    assert join([tmp_path / "out-1", tmp_path / "out-2"], tmp_path / "home").whole == ("best",)


def test_bytes_in_all_are_limited_too(tmp_path: Path, weights: Path):
    outbox = Outbox(tmp_path / "out", tmp_path / "memory", Limits(8, 10_000, 15_000))
    outbox.put("best", 1, {"slim.pt": weights})
    # Parts of 10,000, 10,000 and about 5,000 bytes: the second does not fit any more, the third might not either.
    assert sum((tmp_path / "out" / name).stat().st_size for name in parts_in(tmp_path / "out")) <= 15_000
    assert outbox.waiting >= 1


def test_the_less_worthy_gives_way_and_comes_later(tmp_path: Path):
    two = Limits(files=4, part_bytes=10_000, total_bytes=1_000_000)
    outbox = Outbox(tmp_path / "out-1", tmp_path / "memory", two)
    outbox.put("least", 5, {"a": noise(tmp_path / "a", 15_000, 2)})
    assert all(name.startswith("least") for name in parts_in(tmp_path / "out-1"))
    outbox.put("best", 1, {"b": noise(tmp_path / "b", 15_000, 3)})
    assert all(name.startswith("best") for name in parts_in(tmp_path / "out-1"))
    assert outbox.waiting == 2

    Outbox(tmp_path / "out-2", tmp_path / "memory", two)
    joined = join([tmp_path / "out-1", tmp_path / "out-2"], tmp_path / "home")
    assert joined.whole == ("best", "least")


def test_a_newer_archive_replaces_the_older_and_the_older_serves_where_the_newer_is_damaged(tmp_path: Path):
    Outbox(tmp_path / "out-1", tmp_path / "memory", LIMITS).put("best", 1, {"at": noise(tmp_path / "x", 500, 4)})
    newer = Outbox(tmp_path / "out-2", tmp_path / "memory", LIMITS)
    newer.put("best", 1, {"at": noise(tmp_path / "y", 600, 5)})
    folders = [tmp_path / "out-1", tmp_path / "out-2"]
    assert join(folders, tmp_path / "home").whole == ("best",)
    assert (tmp_path / "home" / "best" / "at").stat().st_size == 600

    (part,) = parts_in(tmp_path / "out-2")
    damaged = bytearray((tmp_path / "out-2" / part).read_bytes())
    damaged[300] ^= 1
    (tmp_path / "out-2" / part).write_bytes(damaged)
    joined = join(folders, tmp_path / "again")
    assert joined.whole == ("best",)
    assert (tmp_path / "again" / "best" / "at").stat().st_size == 500


def test_parts_that_the_manifest_does_not_fit_are_told(tmp_path: Path, weights: Path):
    outbox = Outbox(tmp_path / "out", tmp_path / "memory", LIMITS)
    outbox.put("best", 1, {"slim.pt": weights})
    manifest = tmp_path / "out" / "manifest.json"
    described = json.loads(manifest.read_text())
    described["archives"][0]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(described))
    assert "not the archive" in join([tmp_path / "out"], tmp_path / "home").broken["best"]

    manifest.write_text("{")
    with pytest.raises(PartsError, match="manifest"):
        join([tmp_path / "out"], tmp_path / "home")
