"""Parts of other packages: the example's trained, exported and evaluated, and what is told of faults."""

import shutil
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("torch")

import timm
import torch
from torch import nn

import mammoscope as ms
from mammoscope.detectors import DetectorSpec, ExtensionError, Truth, build_detector
from mammoscope.detectors.backbones import pixel_normalisation
from mammoscope.explain import ExplainError
from mammoscope.training import RunReader, TrainingError, export_bundle, load_recipe, train
from mammoscope.training.callbacks import Unwatched
from mammoscope.training.recipe import parse_recipe, read_recipe_file

PACKAGE = "mammoscope_example"


@pytest.fixture
def example(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example package as if installed: its modules and its entry points."""
    folder = root / "examples/own_parts"
    site = tmp_path / "site"
    shutil.copytree(folder / "src", site)
    declared = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
    installed = site / "mammoscope_example-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mammoscope-example\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in declared.items())
    )
    monkeypatch.syspath_prepend(str(site))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def own_recipe(example: Path, tiny_dataset: Path, tmp_path: Path):
    def read(name: str, *changes: str):
        given = (
            f"data.dataset={tiny_dataset}", "input.rows=64", "input.columns=64", "run.threads=1",
            f"run.folder={tmp_path / 'run'}", *changes,
        )  # fmt: skip
        return load_recipe(example / f"recipes/{name}.toml", given)

    return read


@pytest.mark.slow
def test_a_detector_of_ones_own_trains_exports_and_evaluates(own_recipe, tiny_dataset: Path, tmp_path: Path):
    recipe = own_recipe("own-detector", "schedule.iterations=40", "schedule.batch=4", "optimiser.learning_rate=0.01")
    run = train(recipe, Unwatched())
    bundle = tmp_path / "own.onnx"
    detector = export_bundle(run, bundle)
    assert detector.bundle.metadata.recipe["detector"]["options"] == {"width": 32}
    # The bundle needs the package no more: another process reads with it.
    result = ms.evaluate(ms.Detector(bundle, threads=1), ms.load_dataset(tiny_dataset).split("val"), resamples=20)
    assert result.metrics.ap20 > 0.9
    with pytest.raises(ExplainError, match=r"does not know how mammoscope_example.detector:CentreDetector"):
        RunReader.open(run).explain(ms.read_mammogram(tiny_dataset / "images/08.png"), ())


@pytest.mark.slow
def test_backbone_losses_and_augmentation_learn_and_go_on_as_if_unbroken(own_recipe, tmp_path: Path):
    short = ("schedule.iterations=4", "schedule.batch=2", "run.checkpoint_every=2")
    whole = train(own_recipe("own-parts", *short, f"run.folder={tmp_path / 'whole'}"), Unwatched()).load()

    class Killed(Unwatched):
        def stepped(self, step):
            if step.iteration == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(own_recipe("own-parts", *short), Killed())
    broken = train(own_recipe("own-parts", *short), Unwatched()).load()
    assert broken.iteration == whole.iteration == 4
    for name, value in whole.detector.items():
        assert torch.allclose(broken.detector[name], value, rtol=0, atol=1e-6), name
    plain = train(
        own_recipe("own-parts", *short, f"run.folder={tmp_path / 'p'}", "augmentation.custom=[]"), Unwatched()
    )
    weight = "network.backbone.body.stages.4.0.weight"
    assert not torch.equal(plain.load().detector[weight], whole.detector[weight])


def test_a_part_that_is_not_there_is_told_of(example, tmp_path: Path):
    def spec(**values):
        return DetectorSpec.model_validate({"architecture": "retinanet", "backbone": "resnet18"} | values)

    content = read_recipe_file(example / "recipes/own-parts.toml", ())
    for section, key, value, message in (
        ("detector", "architecture", "retinanett", "did you mean retinanet"),
        ("detector", "backbone", "convnext_tinny", "did you mean convnext_tiny"),
        ("detector", "class_loss", "vocal", "there is no loss vocal"),
        ("augmentation", "custom", [{"use": "specle"}], "there is no augmentation specle"),
        ("detector", "box_loss", "focal", "box_loss is a loss of boxes"),
    ):
        wrong = content | {section: content[section] | {key: value}}
        with pytest.raises(TrainingError, match=message):
            parse_recipe(wrong, "own.toml")
    with pytest.raises(ValueError, match="norm is not for a detector of another package"):
        spec(architecture="centre", backbone="", norm="group")

    (tmp_path / "site/broken.py").write_text(
        textwrap.dedent("""
            from torch import nn
            number = 3
            def fails(spec):
                raise KeyError("width")
            def coarse(spec):
                return nn.Conv2d(3, 8, 64, 64)
            class Wrong(nn.Module):
                def __init__(self, spec):
                    super().__init__()
                def forward(self, images, truth=None):
                    return {"loss": images.sum(dim=0)} if self.training else []
        """)
    )
    truth = Truth.from_targets([{"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([0])}])
    for name, message in (
        ("nowhere.at_all:Thing", "there is no module nowhere"),
        ("broken:Thing", "broken has no Thing"),
        ("broken:number", "cannot be called"),
        ("broken:fails", "failed with KeyError: 'width'"),
    ):
        with pytest.raises(ExtensionError, match=message):
            build_detector(spec(architecture=name, backbone=""))
    for backbone in ("broken:coarse", "vit_tiny_patch16_224"):
        with pytest.raises(ExtensionError, match="at strides 8, 16, 32"):
            build_detector(spec(backbone=backbone, weights="none"))
    wrong = build_detector(spec(architecture="broken:Wrong", backbone=""))
    with pytest.raises(ExtensionError, match="a dict of losses"):
        wrong.train()(torch.zeros(1, 1, 64, 64), truth)
    with pytest.raises(ExtensionError, match="a list of one dict an image"):
        wrong.eval()(torch.zeros(1, 1, 64, 64))


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto"])
def test_any_network_of_timm_is_a_backbone(backbone: str, tmp_path: Path):
    state = timm.create_model(backbone).state_dict()
    torch.save(state, tmp_path / "weights.pth")
    spec = DetectorSpec(
        architecture="retinanet", backbone=backbone, weights=tmp_path / "weights.pth", frozen_stages=2, fpn_channels=16
    )
    detector = build_detector(spec)
    body = detector.network.backbone.body
    learns = {name: one.requires_grad for name, one in body.named_parameters()}
    assert any(learns.values())
    assert not next(iter(learns.values()))  # the stem's
    loaded = {name.replace(".", "_"): value for name, value in body.state_dict().items()}
    first, last = (
        next(iter(state)),
        [name for name in state if name.startswith(("layer4", "stages.3")) and "weight" in name][-1],
    )
    for name in (first, last):
        assert torch.equal(loaded[name.replace(".", "_")], state[name]), name
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())  # its statistics stay ImageNet's
    assert pixel_normalisation(backbone)[0] == (0.485, 0.456, 0.406)
    with torch.no_grad():
        (found,) = detector.eval()(torch.rand(1, 1, 64, 64))
    assert found["boxes"].shape[1] == 4
