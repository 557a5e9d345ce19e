"""FCOS and RT-DETR by recipe: they learn, become bundles that agree with torch, and are evaluated like the others."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import mammoscope as ms
from mammoscope.detectors import DetectorSpec, ExtensionError, Truth, build_detector
from mammoscope.imaging import read_mammogram
from mammoscope.inference import BundleInput, BundleMetadata, OperatingPoint
from mammoscope.training import export_bundle, load_recipe, train
from mammoscope.training.callbacks import Unwatched
from mammoscope.training.export import agree
from mammoscope.training.onnx_export import trained_detector, write_bundle
from mammoscope.training.validation import candidates

FCOS = "mammoscope.detectors.fcos:Fcos"
TRUTH = Truth.from_targets(
    [
        {"boxes": torch.tensor([[10.0, 10, 42, 40]]), "labels": torch.tensor([0])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
)


def fcos(**options: object) -> DetectorSpec:
    given = {"backbone": "tf_efficientnet_lite0"} | options
    return DetectorSpec(architecture=FCOS, options=given, fpn_channels=64, frozen_stages=0, score_threshold=0.005)


def check_exported(run, bundle: Path, dataset: Path, ap20: float) -> None:
    """`export_bundle` compares four images itself; here each validation image, and the figures."""
    detector = export_bundle(run, bundle)
    network, recipe = trained_detector(run), run.recipe()
    validation = ms.load_dataset(dataset).split("val")
    compared = 0
    for image in validation:
        mammogram = read_mammogram(image.path)
        ours = [c for c in candidates(network, recipe.input.geometry, mammogram) if c.score > 0.05]
        calibration = detector.bundle.metadata.calibration
        theirs = detector.candidates(mammogram)
        for candidate in ours:
            score = candidate.score if calibration is None else calibration.probability(np.array(candidate.score))
            apart = [
                max(*(abs(a - b) for a, b in zip(candidate.box.as_tuple(), other.box.as_tuple(), strict=True)),
                    50 * abs(float(score) - other.score))
                for other in theirs
            ]  # fmt: skip
            assert min(apart) <= 0.5
            compared += 1
    assert compared
    assert ms.evaluate(ms.Detector(bundle, threads=1), validation, resamples=20).metrics.ap20 > ap20


@pytest.mark.slow
def test_fcos_trains_exports_and_evaluates(root: Path, tiny_dataset: Path, tmp_path: Path):
    changes = (
        f"data.dataset={tiny_dataset}", "input.rows=64", "input.columns=64", "run.threads=1", "schedule.iterations=40",
        "schedule.batch=4", "schedule.ema=0.9", "schedule.warmup=0", "optimiser.learning_rate=0.003",
        "detector.frozen_stages=0", f"run.folder={tmp_path / 'run'}",
    )  # fmt: skip
    run = train(load_recipe(root / "recipes/lite/fcos-lite0.toml", changes), Unwatched())
    check_exported(run, tmp_path / "fcos.onnx", tiny_dataset, ap20=0.5)


def test_fcos_gives_finite_losses_with_and_without_masses_and_boxes_within_the_image():
    detector = build_detector(fcos())
    losses = detector.train()(torch.rand(2, 1, 64, 96), TRUTH)
    assert set(losses) == {"classification", "bbox_regression", "bbox_ctrness"}
    assert all(torch.isfinite(value) for value in losses.values())
    [found, _] = detector.eval()(torch.rand(2, 1, 64, 96))
    assert len(found["boxes"]) <= 100
    assert (found["boxes"][:, 2] <= 96).all()
    assert (found["scores"].diff() <= 0).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backbone": "tf_efficientnet_lite0", "anchors": 3}, "anchors"),
        ({}, "backbone"),
        ({"backbone": "tf_efficientnet_lite0", "centre_radius": -1.0}, "centre_radius"),
        ({"backbone": "no_such_network"}, "there is no backbone no_such_network"),
    ],
)
def test_options_that_fcos_does_not_know_are_named(options: dict, told: str):
    with pytest.raises(ExtensionError, match=told):
        build_detector(DetectorSpec(architecture=FCOS, options=options))
    with pytest.raises(ExtensionError, match="a larger multiple of 32"):
        build_detector(DetectorSpec(architecture=FCOS, fpn_channels=48, options={"backbone": "tf_efficientnet_lite0"}))


RT_DETR = "mammoscope.detectors.rt_detr:RtDetr"
SMALL = {"backbone": "tf_efficientnet_lite0", "width": 32, "layers": 2, "queries": 40, "denoising": 20}


@pytest.mark.slow
def test_rt_detr_trains_and_its_bundle_agrees_with_torch(root: Path, tiny_dataset: Path, tmp_path: Path):
    """From random weights a transformer finds nothing after seconds: what is shown is the way, not that it is good."""
    pytest.importorskip("transformers")
    # As many queries as there are places in 64 x 64: of nearly equal ones rounding would choose others in each program.
    small = SMALL | {"queries": 84}
    options = ", ".join(
        f'{key} = "{value}"' if key == "backbone" else f"{key} = {value}" for key, value in small.items()
    )
    changes = (
        f"data.dataset={tiny_dataset}", "input.rows=64", "input.columns=64", "run.threads=1", "schedule.iterations=12",
        "schedule.batch=4", "schedule.ema=0", "schedule.warmup=0", "detector.score_threshold=0.001",
        f"detector.options={{ {options} }}", "detector.frozen_stages=0", f"run.folder={tmp_path / 'run'}",
    )  # fmt: skip
    losses: list[float] = []

    class Watch(Unwatched):
        def stepped(self, step):
            losses.append(step.loss)

    run = train(load_recipe(root / "recipes/lite/rt_detr-lite0.toml", changes), Watch())
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    network, recipe = trained_detector(run), run.recipe()
    point = OperatingPoint(name="any", threshold=0.1, rule="none", chosen_on="nothing")
    metadata = BundleMetadata(
        name="rt-detr", version="1", input=BundleInput(rows=64, columns=64, crop="breast"), classes=("Mass",),
        operating_points=(point,), training_data=(), made_with="the tests",
    )  # fmt: skip
    write_bundle(network, metadata, tmp_path / "rt.onnx")
    detector, validation = ms.Detector(tmp_path / "rt.onnx", threads=1), ms.load_dataset(tiny_dataset).split("val")
    for image in validation:
        mammogram = read_mammogram(image.path)
        ours, theirs = candidates(network, recipe.input.geometry, mammogram), detector.candidates(mammogram)
        assert len(ours) > 0
        assert agree(ours, theirs, recipe.detector.score_threshold)
    assert ms.evaluate(detector, validation, resamples=0).metrics.n_images == len(validation)


def test_rt_detr_gives_three_losses_with_and_without_masses_and_boxes_within_the_image():
    pytest.importorskip("transformers")
    detector = build_detector(DetectorSpec(architecture=RT_DETR, options=SMALL, frozen_stages=0, score_threshold=0.005))
    losses = detector.train()(torch.rand(2, 1, 64, 96), TRUTH)
    assert set(losses) == {"classification", "bbox_regression", "bbox_giou"}
    assert all(torch.isfinite(value) for value in losses.values())
    [found, _] = detector.eval()(torch.rand(2, 1, 64, 96))
    assert 0 < len(found["boxes"]) <= 40
    assert (found["boxes"][:, 2] <= 96).all()
    assert (found["scores"].diff() <= 0).all()
    with pytest.raises(ExtensionError, match="layers"):
        build_detector(DetectorSpec(architecture=RT_DETR, options={**SMALL, "layers": 1}))


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ExtensionError, match=r"run pip install '.\[detr\]'"):
        build_detector(DetectorSpec(architecture=RT_DETR, options=SMALL))
