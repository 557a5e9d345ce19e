import json
from pathlib import Path

import pytest

from mammoscope.node.audit import trail as trail_module
from mammoscope.node.audit.trail import AuditTrail, Position, Verification


def test_a_full_file_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "LARGEST_FILE", 1000)
    trail = AuditTrail(tmp_path)
    for number in range(40):
        trail.append([{"event": "x", "of": number}])
    files = sorted(file.name for file in tmp_path.glob("*.jsonl"))
    assert len(files) > 3
    assert [name[7:] for name in files[:3]] == [".jsonl", "_002.jsonl", "_003.jsonl"]
    assert trail.verify() == Verification(40, ())
    lines = list(trail.lines_after(Position("", 0), limit=-1))
    assert [json.loads(line)["of"] for line, _ in lines] == list(range(40))
    assert list(trail.lines_after(trail.end(), limit=-1)) == []
