import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mammoscope.findings import Box, Finding, ReadingStatus
from mammoscope.imaging import Laterality, Mammogram, Placement, View
from mammoscope.inference import Detector, as_findings


def mammogram(seed: int = 0, rows: int = 300, columns: int = 200) -> Mammogram:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns] + 0.5
    breast = (x / (0.7 * columns)) ** 2 + ((y - rows / 2) / (0.4 * rows)) ** 2 < 1
    pixels = breast * 30000 + rng.integers(0, 12000, (rows, columns))
    return Mammogram(pixels.astype(np.uint16), f"m{seed}", Laterality.LEFT, View.CC)


def test_a_reading_says_what_was_read_by_whom_at_which_threshold(seeded_model):
    detector = Detector(seeded_model.bundle, threads=1)
    image = mammogram()
    candidates = detector.candidates(image)
    threshold = candidates[1].score
    reading = detector.read(image, threshold)

    assert [finding.score for finding in candidates] == sorted((f.score for f in candidates), reverse=True)
    assert len(candidates) > 2
    for finding in candidates:
        assert finding.label == "Mass"
        assert finding.box.clipped(300, 200) == finding.box
    assert reading.findings == tuple(f for f in candidates if f.score >= threshold)
    assert len(reading.findings) >= 2
    assert (reading.name, reading.status, reading.reason) == ("m0", ReadingStatus.FOUND, None)
    assert (reading.rows, reading.columns) == (300, 200)
    assert (reading.laterality, reading.view) == (Laterality.LEFT, View.CC)
    assert (reading.algorithm.name, reading.algorithm.version) == ("seeded", "1")
    assert reading.threshold == threshold


def test_nothing_above_the_threshold_is_nothing_found(seeded_model):
    reading = Detector(seeded_model.bundle, threads=1).read(mammogram(), threshold=1.0)

    assert reading.status is ReadingStatus.NOTHING_FOUND
    assert reading.findings == ()


def test_the_default_threshold_is_the_first_operating_points(seeded_model):
    detector = Detector(seeded_model.bundle, threads=1)

    assert detector.threshold == 0.5
    assert detector.read(mammogram()).threshold == 0.5


@pytest.mark.slow
def test_threads_may_share_a_detector(seeded_model):
    detector = Detector(seeded_model.bundle, threads=1)
    images = [mammogram(seed) for seed in range(4)]
    alone = [detector.candidates(image) for image in images]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.candidates, images))
    assert len({found[0] for found in alone}) == 4
    assert together == alone


def test_raw_output_becomes_findings_of_the_file():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 5, 9], [90, 0, 120, 10], [20, 20, 40, 40]], np.float32)
    scores = np.array([0.2, 0.9, 0.3, 1.0000001], np.float32)
    labels = np.array([0, 0, 1, 1])
    image = Mammogram(np.zeros((100, 100), np.uint16), "x")

    # Twice as large and 10 to the right: the second has no width, the third lies outside.
    found = as_findings(boxes, scores, labels, ("Mass", "Cyst"), Placement(10, 0, 2, 2), image)

    assert found == (
        Finding(Box(50, 40, 90, 80), 1.0, "Cyst"),
        Finding(Box(10, 0, 30, 20), float(np.float32(0.2)), "Mass"),
    )


@pytest.mark.slow
def test_the_detector_needs_no_torch():
    code = (
        "import sys; from mammoscope.inference import Detector\n"
        "print(sorted({'torch', 'torchvision', 'timm', 'onnx'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())

    assert done.stdout.strip() == "[]"
