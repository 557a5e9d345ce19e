"""Build the source archive, the wheel from it, and show that the wheel alone works; write its bill of materials.

In an empty environment with the locked packages of the core and the wheel: ``mammoscope demo`` and ``python -m
mammoscope``, from an empty folder. The size of that environment is printed, and too large a one is refused.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
MOST_MEBIBYTES = 550
"""Of the core as `make demo` installs and leaves it, with the byte code of what it used; pip itself left out."""
NOT_OURS = {"pip", "setuptools", "wheel"}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command prints; a failed one ends this program."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build() -> Path:
    """The source archive from the checkout, and the wheel from the source archive."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", DIST)
    (sdist,) = DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (source,) = Path(folder).iterdir()
        run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", DIST, cwd=source)
    (wheel,) = DIST.glob("*.whl")
    return wheel


def mebibytes(environment: Path) -> dict[str, float]:
    """What each package takes on disk, the largest first."""
    (packages,) = environment.glob("lib/python*/site-packages")
    sizes = {
        found.metadata["Name"]: sum(
            file.stat().st_size
            for path in found.files or ()
            for file in _with_byte_code(Path(str(found.locate_file(path))))
        )
        / 2**20
        for found in distributions(path=[str(packages)])
    }
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _with_byte_code(file: Path) -> list[Path]:
    made = file.parent.glob(f"__pycache__/{file.stem}.*.pyc") if file.suffix == ".py" else ()
    return [path for path in (file, *made) if path.is_file()]


def main() -> None:
    """Build, try and measure."""
    wheel = build()
    with tempfile.TemporaryDirectory() as folder:
        environment, empty = Path(folder, "environment"), Path(folder, "empty")
        empty.mkdir()
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        install = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
        run(*install, "--require-hashes", "--requirement", ROOT / "requirements" / "core.txt")
        run(*install, "--no-deps", wheel)
        run(python, "-m", "pip", "check")

        told = run(python, "-m", "mammoscope", "--version", cwd=empty).strip()
        if told.split()[1] != wheel.name.split("-")[1]:
            raise SystemExit(f"{wheel.name} says that it is {told}")
        print(run(environment / "bin" / "mammoscope", "demo", "--out", "demo", cwd=empty))
        sizes = {name: size for name, size in mebibytes(environment).items() if name not in NOT_OURS}
        total = sum(sizes.values())
        print(f"The core takes {total:.0f} MiB (at most {MOST_MEBIBYTES}), of which")
        for name, size in list(sizes.items())[:12]:
            print(f"  {size:6.1f} MiB  {name}")
        if total > MOST_MEBIBYTES:
            raise SystemExit(f"The core is larger than {MOST_MEBIBYTES} MiB: see docs/decisions/031-locked-versions.md")

        bill = DIST / wheel.name.replace(".whl", ".cdx.json")
        run(Path(sys.executable).parent / "cyclonedx-py", "environment", "--pyproject", ROOT / "pyproject.toml",
            "--output-format", "JSON", "--output-file", bill, python)  # fmt: skip
    for made in sorted(DIST.iterdir()):
        print(f"{made.stat().st_size / 1e6:6.1f} MB  dist/{made.name}")


if __name__ == "__main__":
    main()
