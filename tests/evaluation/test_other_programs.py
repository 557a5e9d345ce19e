"""Predictions as another program really wrote them: docs/results/ultralytics.md."""

import json
from pathlib import Path

import pytest

import mammoscope as ms
from mammoscope.datasets import AnnotatedDataset, AnnotatedImage
from mammoscope.findings import Box


def test_the_predictions_of_a_real_ultralytics_run_are_read(root: Path):
    file = root / "docs/results/ultralytics-predictions.json"
    content = json.loads(file.read_text())
    names = sorted({entry["file_name"] for entry in content})
    assert len(names) == 182
    # Each image's best box is taken for its mass.
    best = {name: max((e for e in content if e["file_name"] == name), key=lambda e: e["score"]) for name in names}
    images = tuple(
        AnnotatedImage(
            number, Path(name), 2000, 2000, name[:5], boxes=(Box.from_xywh(*best[name]["bbox"]),), labels=("Mass",)
        )
        for number, name in enumerate(names)
    )
    data = AnnotatedDataset("films", images, {"Mass": 1})
    read = ms.read_predictions(file, data)
    assert sum(len(read.candidates(image)) for image in data) == len(content) == 2766
    for image in images:
        top = max(read.candidates(image), key=lambda finding: finding.score)
        assert top.box.as_tuple() == pytest.approx(image.boxes[0].as_tuple())
        assert top.score == best[image.name]["score"]
