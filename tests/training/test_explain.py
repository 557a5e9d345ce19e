import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mammoscope.detectors import Part, build_detector  # noqa: E402
from mammoscope.findings import ReadingStatus  # noqa: E402
from mammoscope.imaging import Mammogram  # noqa: E402
from mammoscope.inference import Calibration  # noqa: E402
from mammoscope.training import Checkpoint, RunFolder, RunReader, TrainingError, load_recipe  # noqa: E402


@pytest.fixture(scope="module")
def run(tiny_recipe, tmp_path_factory) -> RunFolder:
    """A run of one step, by hand."""
    path = tmp_path_factory.mktemp("run")
    recipe = load_recipe(tiny_recipe(path, detector__weights="none"))
    folder = RunFolder.open(path, recipe, "fingerprint")
    torch.manual_seed(0)
    state = build_detector(recipe.detector).state_dict()
    folder.save(Checkpoint(iteration=7, minutes=1.0, detector=state, averaged=None, optimiser={}))
    return folder


@pytest.fixture(scope="module")
def mammogram() -> Mammogram:
    pixels = np.random.default_rng(0).integers(20000, 60000, (120, 100)).astype(np.uint16)
    return Mammogram(pixels, "m")


def test_a_reading_and_its_explanation_by_a_run(run, mammogram):
    reader = RunReader.open(run)
    score = reader.candidates(mammogram)[1].score

    reading = reader.read(mammogram, score)

    assert reading.status is ReadingStatus.FOUND
    assert reading.threshold == score
    assert all(finding.score >= score for finding in reading.findings)
    assert (reading.rows, reading.columns) == (120, 100)
    assert reading.algorithm == reader.algorithm
    assert reader.algorithm.name == "mammoscope-tiny"
    assert reader.algorithm.version.endswith("+iteration-7")
    maps = reader.explain(mammogram, reading.findings)
    others = reader.explain_shuffled(mammogram, reading.findings, Part.ALL)
    assert len(maps) == len(others) == len(reading.findings)
    assert not any((one.values == other.values).all() for one, other in zip(maps, others, strict=True))


def test_the_operating_point_is_the_one_from_the_end_of_the_run(run, mammogram):
    reader = RunReader.open(run)
    with pytest.raises(TrainingError, match="give --threshold"):
        reader.read(mammogram)

    (run.path / "validation").mkdir()
    (run.path / "validation" / "metrics.json").write_text(json.dumps({"threshold": 0.999}))

    assert reader.threshold == 0.999
    assert reader.read(mammogram).status is ReadingStatus.NOTHING_FOUND


def test_scores_are_calibrated_as_in_the_bundle(run, mammogram):
    reader = RunReader.open(run)
    (run.path / "validation").mkdir(exist_ok=True)
    file = run.path / "validation" / "metrics.json"
    file.write_text(json.dumps({"threshold": 0.5}))
    raw = [finding.score for finding in reader.candidates(mammogram)]
    calibration = Calibration(slope=2.0, intercept=-1.0, rule="by hand", fitted_on="nothing")

    file.write_text(json.dumps({"threshold": 0.5, "calibration": calibration.model_dump(mode="json")}))
    scores = [finding.score for finding in reader.candidates(mammogram)]

    assert scores == pytest.approx([1 / (1 + ((1 - score) / score) ** 2 * np.e) for score in raw], abs=1e-6)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(TrainingError, match="not the folder of a run"):
        RunReader.open(RunFolder(tmp_path))
