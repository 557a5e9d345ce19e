"""The rules of the house that no single room can test."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from mammoscope.cli import app

WITHOUT_TORCH = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm", "accelerate"}:
            raise ImportError(f"{name} is not part of the core install")

sys.meta_path.insert(0, Refuse())
import mammoscope
for module in pkgutil.walk_packages(mammoscope.__path__, "mammoscope."):
    room = module.name.split(".")[1]
    if room not in {"detectors", "training"} and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""

LARGEST_FILE = 40 * 1024 * 1024


def test_the_core_imports_without_torch():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert {"mammoscope.imaging", "mammoscope.findings", "mammoscope.cli"} <= set(done.stdout.split())


def test_the_help_says_research_use_only_and_loads_nothing_heavy():
    code = (
        "import sys; from mammoscope.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('loaded:', *sorted({'torch', 'onnxruntime', 'cv2', 'pynetdicom'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "Research use only; not a medical device." in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


@pytest.mark.parametrize(
    ("skip", "ci", "outcome"),
    [
        ("def test_it(): pytest.skip('no Orthanc here')", "true", "1 failed"),
        ("@pytest.mark.skipif(True, reason='no Orthanc here')\ndef test_it(): pass", "true", "1 error"),
        ("pytest.skip('no Orthanc here', allow_module_level=True)", "true", "1 error"),
        ("def test_it(): pytest.skip('no Orthanc here')", "", "1 skipped"),
    ],
)
def test_a_skip_fails_in_ci_and_only_there(root: Path, tmp_path: Path, skip: str, ci: str, outcome: str):
    (tmp_path / "conftest.py").write_text((root / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(f"import pytest\n{skip}\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CI": ci},
    )

    assert outcome in done.stdout.splitlines()[-1]
    assert "no Orthanc here" in done.stdout
    assert (done.returncode == 0) is (not ci)


@pytest.mark.parametrize(
    ("body", "workers", "finished"),
    [
        ("def test_it(): pass", 0, True),
        ("def test_it(): pass", 2, True),
        ("import os\ndef test_it(): os._exit(0)", 0, False),
        ("import os\ndef test_it(): os.abort()", 0, False),
        ("def test_it(): assert False", 0, False),
    ],
)
def test_ci_sees_that_pytest_did_not_come_to_its_end(
    root: Path, tmp_path: Path, body: str, workers: int, finished: bool
):
    (tmp_path / "test_it.py").write_text(body)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", str(workers), str(tmp_path)]
    log = tmp_path / "log"
    with log.open("w") as out:
        subprocess.run(command, stdout=out, stderr=out, check=False, cwd=tmp_path)
    done = subprocess.run([root / ".ci" / "finished", log], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is finished, log.read_text()
    assert ("without pytest's summary" in done.stderr) is not finished


def test_a_library_that_ends_its_process_is_one_failed_test(tmp_path: Path):
    (tmp_path / "test_it.py").write_text("import os\ndef test_a(): os.abort()\ndef test_b(): pass\ndef test_c(): pass")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "worksteal", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    assert re.search(r"= 1 failed, 2 passed in ", done.stdout), done.stdout


def test_no_tracked_file_is_too_large_to_review(root: Path):
    if not (root / ".git").exists():
        pytest.skip("not a git work tree, so there are no tracked files to look at")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    tracked = [root / name for name in names.split("\0") if name]

    assert tracked
    assert [path.name for path in tracked if path.is_file() and path.stat().st_size > LARGEST_FILE] == []


def test_every_command_in_the_readme_exists(root: Path):
    readme = (root / "README.md").read_text()
    targets = set(re.findall(r"^make ([a-z]+)", readme, re.MULTILINE))
    # Up to two words that can be command names: what follows (a path, an option, a NAME) ends the match.
    commands = set(re.findall(r"^(?:\.venv/bin/)?mammoscope ((?:[a-z][a-z0-9-]*(?: |$)){1,3})", readme, re.MULTILINE))

    assert targets >= {"demo", "test"}
    assert commands
    for target in targets:
        assert subprocess.run(["make", "-n", target], cwd=root, capture_output=True, check=False).returncode == 0, (
            target
        )
    for command in commands:
        result = CliRunner().invoke(app, [*command.split(), "--help"])
        assert result.exit_code == 0, f"mammoscope {command}: {result.output}"


def test_the_version_is_the_same_everywhere(root: Path):
    from mammoscope import __version__

    cited = re.findall(r"^(version|date-released): (.*)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    changes = re.search(r"^## (\S+) \((\S+)\)$", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert dict(cited) == {"version": changes[1], "date-released": changes[2]}
    assert changes[1] == __version__


def test_locks_hold_hashes_no_addresses_and_what_pyproject_asks_for(root: Path):
    asked = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    core = [Requirement(text) for text in asked["dependencies"]]
    extras = [Requirement(text) for texts in asked["optional-dependencies"].values() for text in texts]
    review = [Requirement(text) for text in asked["optional-dependencies"]["review"]]
    for file, wanted in (("core.txt", core), ("review.txt", [*core, *review]), ("dev.txt", [*core, *extras])):
        text = (root / "requirements" / file).read_text()
        assert "://" not in text
        entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
        assert all("--hash=sha256:" in entry for entry in entries)
        locked = {}
        for entry in entries:
            requirement = Requirement(entry.splitlines()[0].removesuffix("\\"))
            locked.setdefault(canonicalize_name(requirement.name), []).extend(requirement.specifier)
        for one in wanted:
            if one.name != "mammoscope":
                assert all(one.specifier.contains(pin.version) for pin in locked[canonicalize_name(one.name)]), one


def test_the_image_is_built_of_what_is_there(root: Path):
    dockerfile = (root / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    copied = [name for line in re.findall(r"^COPY (?!--)(.*)$", dockerfile, re.MULTILINE) for name in line.split()[:-1]]
    assert copied
    assert [
        name for name in [*copied, *re.findall(r"--requirement (\S+)", dockerfile)] if not (root / name).exists()
    ] == []
    asked = {extra for group in re.findall(r"\.\[([a-z,]+)\]", dockerfile) for extra in group.split(",")}
    assert asked <= set(extras)
