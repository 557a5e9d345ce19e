"""The faults that ``make mutants`` plants can be planted: each text is in its file."""

import tomllib
from pathlib import Path


def test_every_fault_has_its_place(root: Path):
    rooms = tomllib.loads((root / "tools" / "mutants.toml").read_text())
    missing = [
        (name, fault["file"], fault["what"])
        for name, room in rooms.items()
        for fault in room["faults"]
        if fault["old"] not in (root / "src" / "mammoscope" / fault["file"]).read_text()
    ]
    assert not missing
