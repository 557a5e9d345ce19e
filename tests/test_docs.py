"""The documentation: its notebooks run, its reference is whole, and the site is built without a dead link."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mammoscope

NOTEBOOKS = ("detect_and_evaluate", "train_on_your_own_data")


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_its_first_cell_to_its_last(root: Path, tmp_path: Path, name: str):
    if name.startswith("train"):
        pytest.importorskip("torch")
    notebook = json.loads((root / f"docs/notebooks/{name}.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(cells))
    environment = os.environ | {"PYTHONPATH": str(Path(mammoscope.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_reference_has_every_public_name_and_no_other(root: Path):
    listed = re.findall(r"^::: (\S+)\.(\w+)$", (root / "docs/reference/python.md").read_text(), re.MULTILINE)
    assert sorted(name for _, name in listed) == sorted(set(mammoscope.__all__) - {"__version__"})
    for home, name in listed:
        assert getattr(sys.modules.get(home) or __import__(home, fromlist=[name]), name) is getattr(mammoscope, name)


@pytest.mark.slow
def test_the_site_is_built_and_a_dead_link_stops_it(root: Path, tmp_path: Path):
    pytest.importorskip("mkdocstrings", reason="the site's builder is not installed (pip install 'mammoscope[docs]')")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    done = subprocess.run([*build, str(tmp_path / "site")], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site/reference/python.html").read_text()
    assert all(f'id="{home}.{name}"' in page for home, name in (("mammoscope.library", "draw"),))
    assert "interval" in page


def test_the_zoo_names_the_shipped_bundle_and_recipes_that_are_there(root: Path):
    page = (root / "docs/zoo.md").read_text()
    shipped = (Path(mammoscope.__file__).parent / "inference/models/default.onnx").read_bytes()
    assert hashlib.sha256(shipped).hexdigest() in page
    for name in re.findall(r"mammoscope train ([\w/-]+)", page):
        assert (root / f"recipes/{name}.toml").is_file(), name
    fixed = tomllib.loads((root / "recipes/cpu-fixed.toml").read_text())
    clocked = tomllib.loads((root / "recipes/cpu.toml").read_text())
    assert "minutes" not in fixed["schedule"]
    assert fixed | {"name": "cpu", "schedule": clocked["schedule"]} == clocked
    for folder in ("lite", "paper", "cpu-four"):
        for file in (root / "recipes" / folder).glob("*.toml"):
            assert "minutes" not in tomllib.loads(file.read_text())["schedule"], file
