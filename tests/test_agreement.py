"""Torch and the bundle say the same of the same mammogram: boxes to half a pixel, scores to 0.01."""

from pathlib import Path

import pytest

from mammoscope.imaging import find_files, read_mammogram
from mammoscope.inference import Detector
from mammoscope.phantom import screening_study
from mammoscope.training.export import agree
from mammoscope.training.validation import candidates


def check(seeded_model, files: list[Path]) -> None:
    bundle = Detector(seeded_model.bundle, threads=1)
    proposed = 0
    for file in files:
        mammogram = read_mammogram(file)
        in_torch = candidates(seeded_model.detector, seeded_model.recipe.input.geometry, mammogram)
        in_bundle = bundle.candidates(mammogram)
        # Beyond the hundredth nothing is proposed, so the last one's score is where two lists may differ.
        lowest = max((found[-1].score for found in (in_torch, in_bundle) if len(found) == 100), default=0.02)
        assert agree(in_torch, in_bundle, lowest), file.name
        proposed += sum(finding.score >= lowest + 0.01 for finding in in_torch)
    assert proposed >= 2 * len(files)


def test_on_phantoms(seeded_model, tmp_path: Path):
    check(seeded_model, screening_study(3, rows=400, columns=300).save(tmp_path))


def test_on_twenty_real_mammograms(seeded_model, shared_data: Path):
    folder = shared_data / "cbis-ddsm" / "test"
    if not folder.is_dir():
        pytest.skip("the CBIS-DDSM test images (../shared/data/cbis-ddsm/test) are not on this machine")
    files = find_files([folder])
    check(seeded_model, files[:: len(files) // 20][:20])


def test_what_counts_as_agreement():
    from mammoscope.findings import Box, Finding

    one, two = Finding(Box(0, 0, 10, 10), 0.9), Finding(Box(50, 50, 60, 60), 0.899)
    assert agree([one, two], [two, one], 0.02)
    assert agree([one], [Finding(Box(0.4, 0, 10, 10.4), 0.895)], 0.02)
    assert agree([one, Finding(Box(1, 1, 2, 2), 0.025)], [one], 0.02)
    assert agree([], [], 0.02)
    assert not agree([one], [one, two], 0.02)
    assert not agree([one, two], [one], 0.02)
    assert not agree([one], [Finding(Box(0.6, 0, 10, 10), 0.9)], 0.02)
    assert not agree([one], [Finding(one.box, 0.88)], 0.02)
    assert not agree([one], [Finding(one.box, 0.9, "Calcification")], 0.02)
