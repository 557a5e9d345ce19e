"""A synthetic mammogram with a mass, as the shipped model sees it."""

from pathlib import Path

import pytest

from mammoscope.findings import Finding
from mammoscope.imaging import Mammogram, read_mammogram
from mammoscope.inference import Detector
from mammoscope.phantom import screening_study


@pytest.fixture(scope="session")
def detector() -> Detector:
    return Detector(threads=1)


@pytest.fixture(scope="session")
def mammogram(tmp_path_factory: pytest.TempPathFactory) -> Mammogram:
    folder: Path = tmp_path_factory.mktemp("explained")
    return read_mammogram(screening_study(1, masses=1, rows=400, columns=300).save(folder)[0])


@pytest.fixture(scope="session")
def surest(detector: Detector, mammogram: Mammogram) -> Finding:
    return detector.candidates(mammogram)[0]
