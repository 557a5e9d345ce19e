import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mammoscope.datasets import load_dataset
from mammoscope.detectors import build_detector
from mammoscope.evaluation import case_of, count_at, match, read_report
from mammoscope.imaging import read_mammogram
from mammoscope.training import (
    RunFolder,
    TrainingError,
    averaged_detector,
    export_bundle,
    report_validation,
    trained_detector,
)
from mammoscope.training import export as bundling


@pytest.fixture
def run(killed_run, tmp_path: Path) -> RunFolder:
    shutil.copytree(killed_run.folder, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_the_report_is_of_the_checkpoint_and_can_be_had_again(run: RunFolder):
    before = json.loads((run.path / "validation" / "metrics.json").read_text())
    shutil.rmtree(run.path / "validation")

    metrics = report_validation(run)

    after = json.loads((run.path / "validation" / "metrics.json").read_text())
    assert after["ap50"] == pytest.approx(before["ap50"], abs=1e-6)
    assert after["threshold"] == pytest.approx(metrics.threshold)


def test_a_data_set_that_changed_is_refused(run: RunFolder, tmp_path: Path):
    described = run.description() | {"data_fingerprint": "another"}
    (run.path / "recipe.json").write_text(json.dumps(described))

    for make in (report_validation, lambda folder: export_bundle(folder, tmp_path / "x.onnx")):
        with pytest.raises(TrainingError, match=r"is no longer the one that .* was trained on: restore it"):
            make(run)


def test_a_detector_that_finds_nothing_is_told(run: RunFolder):
    described = run.description()
    described["recipe"]["detector"]["score_threshold"] = 0.9999
    (run.path / "recipe.json").write_text(json.dumps(described))

    with pytest.raises(TrainingError, match="finds no lesion on the validation images: its checkpoint is kept"):
        report_validation(run)


def test_a_bundle_that_cannot_be_written_is_told(run: RunFolder, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"the bundle .* cannot be written: .*; choose another --out"):
        export_bundle(run, tmp_path / "file" / "x.onnx")


def test_a_bundle_that_disagrees_is_not_kept(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "x.onnx"
    out.write_text("the bundle before")
    monkeypatch.setattr(bundling, "_BOX_TOLERANCE", -1.0)  # no box agrees that well

    with pytest.raises(TrainingError, match="otherwise than the network in torch and was not kept"):
        export_bundle(run, out)
    assert out.read_text() == "the bundle before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.onnx"]


def test_name_and_version_as_they_were_given(run: RunFolder, tmp_path: Path):
    algorithm = export_bundle(run, tmp_path / "b.onnx", name="mine", version="7").algorithm

    assert (algorithm.name, algorithm.version) == ("mine", "7")


def test_a_bundle_is_calibrated_and_keeps_its_operating_point(run: RunFolder, tiny_dataset: Path, tmp_path: Path):
    detector = export_bundle(run, tmp_path / "b.onnx")
    metadata = detector.bundle.metadata
    closing = read_report(run.path / "validation")

    assert metadata.calibration.fitted_on == metadata.operating_points[0].chosen_on
    assert closing.metrics["calibration"] == metadata.calibration.model_dump()
    assert closing.metrics["threshold"] == detector.threshold
    results = [
        case_of(image, detector.candidates(read_mammogram(image.path))).result
        for image in load_dataset(tiny_dataset, "val")
    ]
    found = count_at(match(results, 0.5), detector.threshold)
    assert found.f1[0] == pytest.approx(metadata.figures[0].values["f1"], abs=1e-4)
    for ours, theirs in zip(results, closing.results, strict=True):
        assert [f.score for f in ours.candidates][:3] == pytest.approx(
            [f.score for f in theirs.candidates][:3], abs=1e-3
        )


def test_a_bundle_holds_its_recipe_without_places_on_the_machine(run: RunFolder, tmp_path: Path):
    recipe = export_bundle(run, tmp_path / "b.onnx").bundle.metadata.recipe
    assert recipe["run"] == {"seed": 3}
    assert recipe["schedule"]["iterations"] == 24
    assert str(tmp_path.parent) not in json.dumps(recipe)
    assert "dataset" not in recipe["data"]


def test_several_runs_become_one_bundle(run: RunFolder, tiny_dataset: Path, tmp_path: Path):
    other = RunFolder(tmp_path / "other")
    shutil.copytree(run.path, other.path)
    described = run.description()
    described["recipe"]["input"]["rows"] *= 2
    (other.path / "recipe.json").write_text(json.dumps(described))

    detector = export_bundle([run, other], tmp_path / "both.onnx", mirrored=True)

    metadata = detector.bundle.metadata
    assert (metadata.input.rows, metadata.input.columns) == (run.recipe().input.rows, run.recipe().input.columns)
    assert metadata.recipe["mirrored"] is True
    assert metadata.recipe["fused"]["2"]["input"]["rows"] == 2 * run.recipe().input.rows
    alone = export_bundle(run, tmp_path / "one.onnx")
    assert detector.algorithm.version != alone.algorithm.version
    image = load_dataset(tiny_dataset, "val").images[0]
    assert detector.candidates(read_mammogram(image.path))


def with_changed_weights(run: RunFolder, folder: Path, change: Callable[[Tensor], Tensor]) -> RunFolder:
    """A copy of a run whose every weight is changed."""
    shutil.copytree(run.path, folder)
    changed = RunFolder(folder)
    weights = {
        name: change(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in changed.load().best_state.items()
    }
    changed.save(replace(changed.load(), detector=weights, averaged=None))
    return changed


def test_averaged_runs_become_one_network_of_their_mean_weights(run: RunFolder, tmp_path: Path):
    # The mean of w + 0.001 and w - 0.001 is w: the bundle finds what the run alone finds.
    more = with_changed_weights(run, tmp_path / "more", lambda tensor: tensor + 1e-3)
    less = with_changed_weights(run, tmp_path / "less", lambda tensor: tensor - 1e-3)
    name, weights = next(iter(trained_detector(run).state_dict().items()))
    assert not torch.allclose(trained_detector(more).state_dict()[name], weights, atol=1e-6)

    mean = averaged_detector([more, less]).state_dict()
    for name, tensor in trained_detector(run).state_dict().items():
        assert torch.allclose(mean[name].double(), tensor.double(), atol=1e-5), name

    averaged = export_bundle([more, less], tmp_path / "mean.onnx", averaged=True)
    alone = export_bundle(run, tmp_path / "alone.onnx")
    recipe = averaged.bundle.metadata.recipe
    assert list(recipe["averaged"]) == ["1", "2"]
    assert "fused" not in recipe
    assert (tmp_path / "mean.onnx").stat().st_size < 1.2 * (tmp_path / "alone.onnx").stat().st_size
    assert averaged.bundle.metadata.figures[0].values == alone.bundle.metadata.figures[0].values


def with_other_detector(run: RunFolder, folder: Path, **changes: object) -> RunFolder:
    """A copy of a run whose recipe asks for another detector, with that detector's first weights."""
    shutil.copytree(run.path, folder)
    other = RunFolder(folder)
    described = run.description()
    described["recipe"]["detector"] |= changes
    (folder / "recipe.json").write_text(json.dumps(described))
    weights = build_detector(other.recipe().detector, load_weights=False).state_dict()
    other.save(replace(other.load(), detector=weights, averaged=None))
    return other


@pytest.mark.parametrize("changes", [{"fpn_channels": 64}, {"anchor_scale": 32}], ids=str)
def test_networks_of_different_kinds_have_no_mean(run: RunFolder, tmp_path: Path, changes: dict[str, object]):
    other = with_other_detector(run, tmp_path / "other", **changes)

    with pytest.raises(TrainingError, match="different kinds, whose weights have no mean"):
        export_bundle([run, other], tmp_path / "x.onnx", averaged=True)


def test_one_run_has_no_mean(run: RunFolder, tmp_path: Path):
    with pytest.raises(TrainingError, match="name two runs or more to average"):
        export_bundle(run, tmp_path / "x.onnx", averaged=True)


def test_runs_of_other_data_or_classes_are_not_fused(run: RunFolder, tmp_path: Path):
    for key, complaint in (
        ("data", "was trained on other data or another split"),
        ("classes", "differ in classes or crop"),
    ):
        other = RunFolder(tmp_path / key)
        shutil.copytree(run.path, other.path)
        described = run.description()
        if key == "data":
            described["data_fingerprint"] = "another"
        else:
            described["recipe"]["detector"]["classes"] = ["Mass", "Calcification"]
        (other.path / "recipe.json").write_text(json.dumps(described))
        with pytest.raises(TrainingError, match=complaint):
            export_bundle([run, other], tmp_path / "x.onnx")
