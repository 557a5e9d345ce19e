from pathlib import Path

import pytest

from mammoscope.detectors import build_detector
from mammoscope.training import TrainingError, load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.toml") if path.parent.name != "pretrain")

MINIMAL = """
name = "small"
[data]
dataset = "data/here"
source = "nowhere"
licence = "CC0"
[input]
rows = 64
columns = 32
[detector]
architecture = "retinanet"
backbone = "tf_efficientnet_lite0"
[optimiser]
learning_rate = 0.01
[schedule]
iterations = 10
batch = 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_of_the_repository_can_be_built(path: Path):
    recipe = load_recipe(path)
    detector = build_detector(recipe.detector, load_weights=False)

    prefix = {"gpu": "gpu-", "cpu-four": "cpu-"}.get(path.parent.name, "")
    assert recipe.name == prefix + path.stem
    assert sum(1 for p in detector.parameters() if p.requires_grad) > 20
    assert all(0 < milestone < recipe.schedule.iterations for milestone in recipe.schedule.milestones)


def test_the_recipes_of_the_paper_are_the_four_of_its_models():
    recipes = {path.stem: load_recipe(path) for path in (ROOT / "recipes" / "paper").glob("*.toml")}

    assert {(str(r.detector.architecture), str(r.detector.backbone)) for r in recipes.values()} == {
        (architecture, backbone)
        for architecture in ("retinanet", "faster_rcnn")
        for backbone in ("resnet50", "resnet101")
    }
    for recipe in recipes.values():
        assert (recipe.schedule.iterations, recipe.schedule.batch, recipe.schedule.milestones) == (24000, 16, (18000,))
        assert (recipe.optimiser.kind, recipe.optimiser.learning_rate, recipe.optimiser.momentum) == ("sgd", 1e-3, 0.9)


def test_defaults_and_the_runs_folder(file: Path):
    recipe = load_recipe(file)

    assert recipe.run_folder == Path("runs/small")
    assert recipe.augmentation.horizontal_flip == 0.5
    assert recipe.detector.classes == ("Mass",)
    assert load_recipe(file, ("run.folder=/elsewhere",)).run_folder == Path("/elsewhere")


def test_changes_replace_what_the_file_says(file: Path):
    recipe = load_recipe(
        file,
        (
            "schedule.iterations=7",
            "optimiser.learning_rate = 1e-5",
            "detector.weights=none",
            "name=other",
            "augmentation.zoom=[0.5, 2.0]",
            'detector.classes=["Mass", "Calcification"]',
        ),
    )

    assert recipe.schedule.iterations == 7
    assert recipe.optimiser.learning_rate == 1e-5
    assert recipe.detector.weights == "none"
    assert recipe.name == "other"
    assert recipe.augmentation.zoom == (0.5, 2.0)
    assert recipe.detector.classes == ("Mass", "Calcification")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("schedule.iteration=7", "schedule.iteration: a recipe has no such key; did you mean schedule.iterations?"),
        ("shedule.iterations=7", "shedule: a recipe has no such key"),
        ("schedule.iterations=many", "schedule.iterations: it has to be a whole number, not 'many'"),
        ("schedule.batch=0", "schedule.batch: it has to be 1 or more, not 0"),
        ("schedule.accumulate=3", "schedule: batch = 4 does not divide into accumulate = 3 parts"),
        ("input.rows=100", "input.rows: it has to be a multiple of 32, not 100"),
        ("input.crop=chest", "input.crop: it has to be one of 'breast' or 'none', not 'chest'"),
        ("detector.backbone=resnet1", "detector.backbone: there is no backbone resnet1; did you mean resnet18"),
        ("augmentation.zoom=[2.0, 1.0]", "augmentation: zoom is a smallest and a largest scale"),
        ("name=My Model", "name: it has to be of the form ^[a-z0-9]"),
    ],
)
def test_what_a_recipe_cannot_say_is_refused_by_name(file: Path, change: str, sentence: str):
    with pytest.raises(TrainingError) as caught:
        load_recipe(file, (change,))
    assert f"{file}: {sentence}" in str(caught.value)


@pytest.mark.parametrize("change", ["schedule.batch", "=3", "", "name.first=x", "schedule.=3"])
def test_a_change_that_is_none_is_refused(file: Path, change: str):
    with pytest.raises(TrainingError, match=r"write it as section\.key=value"):
        load_recipe(file, (change,))


def test_a_section_that_is_missing_is_named(file: Path):
    file.write_text(MINIMAL.replace("[optimiser]\nlearning_rate = 0.01\n", ""))
    with pytest.raises(TrainingError, match="optimiser: it is missing"):
        load_recipe(file)


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path):
    with pytest.raises(TrainingError, match="cannot be read: No such file"):
        load_recipe(tmp_path / "gone.toml")
    (tmp_path / "prose.toml").write_text("Take two eggs.")
    with pytest.raises(TrainingError, match="is not TOML"):
        load_recipe(tmp_path / "prose.toml")
    (tmp_path / "noise.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match="is not TOML"):
        load_recipe(tmp_path / "noise.toml")
