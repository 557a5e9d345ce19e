"""The bundle that comes with Mammoscope: it is there, says what it must, and finds what it should."""

import numpy as np
import pytest

from mammoscope.findings import Box
from mammoscope.imaging import Mammogram, read_mammogram
from mammoscope.inference import Detector, shipped_bundle
from mammoscope.phantom import screening_study


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(threads=1)


def test_it_is_small_enough_to_ship():
    assert shipped_bundle().stat().st_size < 40e6


def test_it_says_what_it_learned_from_and_what_it_reached(detector: Detector):
    metadata = detector.bundle.metadata
    [data] = metadata.training_data
    assert "CBIS-DDSM" in data.name
    assert data.licence == "CC BY 3.0"
    [figures] = metadata.figures
    assert figures.split == "val"
    low, high = figures.intervals["ap50"]
    assert low < figures.values["ap50"] < high
    assert "validation" in metadata.operating_points[0].rule
    assert "not a medical device" in metadata.notice


@pytest.mark.slow
def test_it_finds_the_masses_of_a_synthetic_study(detector: Detector, tmp_path):
    study = screening_study(1, masses=2)
    found = total = 0
    for image, path in zip(study.images, study.save(tmp_path), strict=True):
        reading = detector.read(read_mammogram(path))
        total += len(image.truth)
        found += sum(any(_inside(truth, finding.box) for finding in reading.findings) for truth in image.truth)
    assert total == 4
    assert found >= 3


def test_it_finds_the_masses_of_the_native_mammograms(detector: Detector, shared_data):
    native = shared_data / "cbis-ddsm" / "native"
    boxes: dict[str, list[Box]] = {}
    for line in (native / "CBISBoundingBoxes_png.txt").read_text().splitlines():
        name, *numbers = line.split()
        x0, y0, x1, y1, *_ = map(float, numbers)
        boxes.setdefault(name.partition("=")[0].rpartition("_")[0], []).append(Box(x0, y0, x1, y1))
    hits = 0
    for file in native.glob("*=full.png"):
        candidates = detector.candidates(read_mammogram(file))[:5]
        hits += any(_inside(box, found.box) for box in boxes[file.name.partition("=")[0]] for found in candidates)
    assert len(boxes) == hits == 2


def test_an_empty_picture_gives_no_finding(detector: Detector):
    black = Mammogram(np.zeros((600, 400), np.uint16), "black")
    assert detector.read(black).findings == ()


def _inside(truth: Box, found: Box) -> bool:
    x, y = found.center
    return truth.x0 <= x <= truth.x1 and truth.y0 <= y <= truth.y1
