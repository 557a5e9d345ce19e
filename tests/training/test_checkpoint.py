import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mammoscope.training import Checkpoint, RunFolder, TrainingError, load_recipe


@pytest.fixture
def recipe(tiny_recipe, tmp_path: Path):
    return load_recipe(tiny_recipe(tmp_path / "run"))


def checkpoint(iteration: int = 7, size: int = 4) -> Checkpoint:
    state = {"weight": torch.full((size,), float(iteration))}
    return Checkpoint(iteration, 1.5, state, {"weight": state["weight"] / 2}, {"state": {}, "param_groups": []})


def test_a_checkpoint_comes_back_whole(tmp_path: Path):
    run = RunFolder(tmp_path)
    assert not run.has_checkpoint
    run.save(checkpoint(7))
    run.save(checkpoint(8))

    loaded = run.load()
    assert (loaded.iteration, loaded.minutes) == (8, 1.5)
    assert torch.equal(loaded.detector["weight"], torch.full((4,), 8.0))
    assert torch.equal(loaded.best_state["weight"], torch.full((4,), 4.0))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_without_averaged_weights_the_learning_ones_are_best():
    state = {"weight": torch.ones(1)}
    assert Checkpoint(1, 0.0, state, None, {}).best_state is state


def test_no_checkpoint_and_a_damaged_one_are_told(tmp_path: Path):
    run = RunFolder(tmp_path)
    with pytest.raises(TrainingError, match="has no checkpoint yet: train longer"):
        run.load()
    run.save(checkpoint())
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is damaged: delete it"):
        run.load()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a disk of 256 kB to fill")
    try:
        run = RunFolder(disk)
        run.save(checkpoint(1))
        with pytest.raises(TrainingError, match="could not be written") as caught:
            run.save(checkpoint(2, size=1_000_000))
        assert "\n" not in str(caught.value)
        assert run.load().iteration == 1
        assert [path.name for path in disk.iterdir()] == ["checkpoint.pt"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_same_recipe_goes_on_also_with_other_workers(recipe, tmp_path: Path):
    folder = RunFolder.open(tmp_path / "run", recipe, "data")
    folder.save(checkpoint())
    more = recipe.model_copy(update={"run": recipe.run.model_copy(update={"workers": 3, "checkpoint_every": 1})})

    assert RunFolder.open(tmp_path / "run", recipe, "data") == folder
    assert RunFolder.open(tmp_path / "run", more, "data") == folder
    assert folder.recipe() == recipe
    assert folder.description()["data_fingerprint"] == "data"


def test_a_run_of_another_recipe_or_seed_or_other_data_is_refused(recipe, tmp_path: Path):
    RunFolder.open(tmp_path / "run", recipe, "data").save(checkpoint())
    faster = recipe.model_copy(update={"optimiser": recipe.optimiser.model_copy(update={"learning_rate": 1.0})})
    seeded = recipe.model_copy(update={"run": recipe.run.model_copy(update={"seed": 99})})

    with pytest.raises(TrainingError, match=r"another recipe \(optimiser\.learning_rate differs\)"):
        RunFolder.open(tmp_path / "run", faster, "data")
    with pytest.raises(TrainingError, match=r"another recipe \(run\.seed differs\)"):
        RunFolder.open(tmp_path / "run", seeded, "data")
    with pytest.raises(TrainingError, match="a run on other data"):
        RunFolder.open(tmp_path / "run", recipe, "other data")


def test_a_start_that_failed_before_its_first_checkpoint_binds_nobody(recipe, tmp_path: Path):
    RunFolder.open(tmp_path / "run", recipe, "data")
    faster = recipe.model_copy(update={"optimiser": recipe.optimiser.model_copy(update={"learning_rate": 1.0})})

    assert RunFolder.open(tmp_path / "run", faster, "other data").recipe() == faster
    assert RunFolder(tmp_path / "run").description()["data_fingerprint"] == "other data"


def test_a_folder_that_is_no_runs_or_cannot_be_made_is_told(recipe, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"is not the folder of a run: it has no readable recipe\.json"):
        RunFolder(tmp_path).recipe()
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"run's folder .* cannot be written: Not a directory"):
        RunFolder.open(tmp_path / "file" / "run", recipe, "data")


def test_a_recipe_json_cut_short_is_told(recipe, tmp_path: Path):
    RunFolder.open(tmp_path / "run", recipe, "data").save(checkpoint())
    (tmp_path / "run" / "recipe.json").write_text('{"recipe": {')
    with pytest.raises(TrainingError, match="is not the folder of a run"):
        RunFolder.open(tmp_path / "run", recipe, "data")
    shutil.rmtree(tmp_path / "run")
    assert RunFolder.open(tmp_path / "run", recipe, "data")


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_writing_leaves_the_checkpoint_before(tmp_path: Path):
    run = RunFolder(tmp_path)
    run.save(checkpoint(1))
    writer = (
        "import os, signal, torch; from pathlib import Path; import mammoscope.training.checkpoint as module\n"
        "module.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "state, optimiser = {'weight': torch.ones(4)}, {'state': {}, 'param_groups': []}\n"
        f"module.RunFolder(Path({str(tmp_path)!r})).save(module.Checkpoint(2, 1.5, state, None, optimiser))\n"
    )
    assert subprocess.run([sys.executable, "-c", writer], check=False, timeout=120).returncode == -9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.part", "checkpoint.pt"]
    assert run.load().iteration == 1
    run.save(checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert run.load().iteration == 2
