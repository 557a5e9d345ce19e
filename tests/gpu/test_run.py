"""The whole way on a CPU: packed, stopped in the middle, gone on with, joined, and the run evaluated."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from pack import missing_distributions
from packaging.requirements import Requirement
from plan import read_plan

torch = pytest.importorskip("torch")


def command(root: Path, script: str, *arguments: object) -> list[str]:
    return [sys.executable, str(root / "gpu" / script), *map(str, arguments)]


def run_script(root: Path, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    return subprocess.run(
        command(root, script, *arguments), capture_output=True, text=True, check=False, timeout=900, env=environment
    )


@pytest.fixture
def plan(tiny_dataset: Path, tiny_recipe, tmp_path: Path) -> Path:
    recipe = tiny_recipe(tmp_path / "unused", schedule__iterations=16)
    stage = f"""
[[stage]]
name = "{{name}}"
command = "train"
recipe = "{recipe}"
changes = ["data.dataset=data/{tiny_dataset.name}", "detector.weights=weights/tf_efficientnet_lite0.pth"]
"""
    file = tmp_path / "plan.toml"
    second = stage.format(name="two") + 'after = "one"\nbring = "figures"\n'
    file.write_text(stage.format(name="one") + second)
    return file


def test_a_plan_is_worked_through_stopped_and_gone_on_with(root: Path, tiny_dataset: Path, plan: Path, tmp_path: Path):
    def pack(number: int, *more: object) -> None:
        made = run_script(root, "pack.py", plan, "--data", tiny_dataset.parent, "--out", tmp_path / f"pack-{number}",
                          "--no-wheels", "--quality", 95, *more)  # fmt: skip
        assert made.returncode == 0, made.stderr

    def arguments(number: int) -> list[object]:
        """Each command on a machine of its own."""
        folders = {name: tmp_path / f"{name}-{number}" for name in ("pack", "out", "work")}
        return [plan, "--minutes", 15, *(word for name, folder in folders.items() for word in (f"--{name}", folder))]

    pack(1)
    checkpoint = tmp_path / "work-1" / "runs" / "one" / "checkpoint.pt"
    with subprocess.Popen(command(root, "run.py", *arguments(1)), stdout=subprocess.DEVNULL) as first:
        until = time.monotonic() + 600
        while not checkpoint.is_file() and first.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        first.send_signal(signal.SIGTERM)
    assert first.returncode == 1
    stopped_at = torch.load(checkpoint, weights_only=True)["iteration"]
    assert 4 <= stopped_at < 16
    home = run_script(root, "join.py", tmp_path / "out-1", "--to", tmp_path / "home-1")
    assert home.returncode == 0, home.stderr
    assert torch.load(tmp_path / "home-1" / "one" / "checkpoint.pt", weights_only=True)["iteration"] == stopped_at

    pack(2, "--runs", tmp_path / "home-1" / "one")
    second = run_script(root, "run.py", *arguments(2))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "all done; 0 parts wait" in second.stdout
    assert f"going on after iteration {stopped_at}" in (tmp_path / "work-2" / "logs" / "one.txt").read_text()
    home = run_script(root, "join.py", tmp_path / "out-1", tmp_path / "out-2", "--to", tmp_path / "home")
    assert home.returncode == 0, home.stderr
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"logs", "one", "two"}
    assert not (tmp_path / "home" / "two" / "checkpoint.pt").exists()
    assert (tmp_path / "home" / "two" / "curves.jsonl").is_file()

    trained = torch.load(tmp_path / "work-2" / "runs" / "one" / "checkpoint.pt", weights_only=True)
    joined = torch.load(tmp_path / "home" / "one" / "checkpoint.pt", weights_only=True)
    assert joined["iteration"] == 16
    for name, value in trained["averaged"].items():
        assert torch.allclose(joined["averaged"][name], value, rtol=1e-3, atol=1e-6), name


def test_a_damaged_pack_is_refused(root: Path, plan: Path, tmp_path: Path):
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "a").write_text("as packed")
    (pack / "pack.json").write_text(json.dumps({"a": "0" * 64}))
    done = run_script(root, "run.py", plan, "--pack", pack, "--out", tmp_path / "out", "--work", tmp_path / "work",
                      "--minutes", 1)  # fmt: skip
    assert done.returncode == 2
    assert "is missing or damaged: carry the pack again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('name = "one"', "two stages have one name"),
        ('after = "three"', "no stage is called three"),
        ('command = "fly"', "is one of train, pretrain, probe"),
        ("colour = 1", "colour"),
    ],
)
def test_a_plan_that_is_none_is_told(tmp_path: Path, change: str, told: str):
    lines = {"name": '"two"', "command": '"train"', "recipe": '"x.toml"'}
    key, _, value = change.partition(" = ")
    lines[key] = value
    file = tmp_path / "plan.toml"
    file.write_text(
        '[[stage]]\nname = "one"\ncommand = "train"\nrecipe = "x.toml"\n[[stage]]\n'
        + "\n".join(f"{key} = {value}" for key, value in lines.items())
    )
    from parts import PartsError

    with pytest.raises(PartsError, match=told):
        read_plan(file)


@pytest.mark.parametrize(("name", "seconds"), [("call-1", 120), ("call-2", 570), ("folds", 570), ("four", 570)])
def test_the_plans_and_their_recipes_are_sound_and_fit_their_call(root: Path, name: str, seconds: float):
    from mammoscope.training import load_pretrain_recipe, load_recipe

    plan = read_plan(root / "gpu" / f"{name}.toml")
    for stage in plan.stages:
        load = load_pretrain_recipe if stage.command == "pretrain" else load_recipe
        for recipe in (stage.recipe, *stage.candidates):
            load(root / recipe, stage.changes)
    assert sum(stage.minutes * 60 for stage in plan.stages) <= seconds


def test_a_pack_that_is_too_large_is_refused_before_its_pictures_are_made(root: Path, plan: Path, tmp_path: Path):
    out = tmp_path / "pack"
    done = run_script(root, "pack.py", plan, "--data", tmp_path, "--out", out, "--no-wheels", "--limit-mib", 0.5)
    assert done.returncode == 2
    assert "the pack is too large: with the repository's files alone it has more than 0.5 MiB" in done.stderr
    assert not (out / "data").exists()


def test_the_wheels_are_what_a_training_loads_and_the_machine_has_not(root: Path):
    """A new dependency that a training loads is packed; one that it does not load is named in ``left_out``."""
    machine = tomllib.loads((root / "gpu" / "machine.toml").read_text())
    packed = {entry.partition("==")[0] for entry in missing_distributions(machine)}
    loads = (
        "import sys, mammoscope.training, mammoscope.cli.train; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    of = packages_distributions()
    loaded = {re.sub(r"[-_.]+", "-", name).lower() for module in done.stdout.split() for name in of.get(module, ())}
    ours = {re.sub(r"[-_.]+", "-", name).lower() for name in installed_with(root)}
    assert packed <= loaded
    assert (loaded & ours) - set(machine["installed"]) - set(machine["left_out"]) <= packed


def installed_with(root: Path) -> set[str]:
    """What ``mammoscope[train]`` brings on this machine, by its direct dependencies."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    return {Requirement(one).name for one in wanted} - {project["name"]}


WITHOUT_NETWORK = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
SMALL = ("input.rows=64", "input.columns=64", "detector.anchor_scale=16", "schedule.batch=4", "schedule.iterations=3",
         "schedule.warmup=0", "run.threads=1", "run.workers=0")  # fmt: skip


@pytest.mark.slow
def test_dress_rehearsal_of_both_calls_without_network(root: Path, tiny_dataset: Path, tmp_path: Path):
    """The calls as they are, but for the pictures, the size and the number of steps; each within its seconds."""
    if subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a process without a network cannot be started here")
    shutil.copytree(tiny_dataset, tmp_path / "data" / "film-digital")
    calls = [root / "gpu" / f"call-{number}.toml" for number in (1, 2)]
    packed = run_script(root, "pack.py", *calls, "--data", tmp_path / "data", "--out", tmp_path / "pack", "--no-wheels")
    assert packed.returncode == 0, packed.stderr
    assert {file.name for file in (tmp_path / "pack" / "weights").iterdir()} == {"tf_efficientnet_lite2.pth"}
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    for number, (call, seconds) in enumerate(zip(calls, (120, 570), strict=True), start=1):
        # The seconds are a GPU's: a CPU that others use gets more, for the same minutes of the schedule.
        timed = ["timeout", str(seconds * 6), *WITHOUT_NETWORK]
        sets = [word for change in SMALL for word in ("--set", change)]
        folders = ("--pack", tmp_path / "pack", "--work", tmp_path / "work", "--out", tmp_path / f"out-{number}")
        run = command(root, "run.py", call, *folders, "--no-install", "--minutes", seconds * 5 / 60, *sets)
        done = subprocess.run([*timed, *run], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    home = run_script(root, "join.py", tmp_path / "out-1", tmp_path / "out-2", "--to", tmp_path / "home")
    assert home.returncode == 0, home.stderr
    assert {path.name for path in (tmp_path / "home").iterdir()} == {
        "logs",
        "probe",
        "try-teacher",
        "try-student",
        "gpu-teacher",
        "gpu-student",
    }
    tried = json.loads((tmp_path / "home" / "probe" / "probe.json").read_text())
    assert {one["recipe"] for one in tried} == {"gpu-student", "gpu-teacher"}
    assert all(one["images_a_second"] > 0 for one in tried)
    student = torch.load(tmp_path / "home" / "gpu-student" / "checkpoint.pt", weights_only=True)
    assert student["iteration"] == 3
    last = json.loads((tmp_path / "home" / "gpu-student" / "recipe.json").read_text())
    assert last["recipe"]["distill"]["teacher"] == "runs/gpu-teacher"
