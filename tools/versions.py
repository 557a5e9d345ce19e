"""Run tests with the oldest or the newest versions that pyproject.toml allows.

``oldest``: each direct dependency of the core and the reading room at its lower bound, and the tests of the rooms that
need no torch.
``newest``: everything as a fresh ``pip install 'mammoscope[train,ray]'`` brings it today, and every test.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of the tests' own tools what the rooms below need; a test that needs more is skipped.
TOOLS = ["pytest>=8.3", "pytest-xdist>=3.8", "hypothesis>=6.120", "onnx>=1.17", "aiosmtpd>=1.4.6"]
WITHOUT_TORCH = [
    "tests/imaging", "tests/inference", "tests/results", "tests/phantom", "tests/datasets", "tests/evaluation",
    "tests/explain", "tests/network", "tests/node", "tests/review", "tests/test_demo.py", "tests/test_settings.py",
    "tests/test_reading.py",
    "--ignore=tests/review/test_schema.py",  # schemathesis asks for newer versions of what it tries
]  # fmt: skip


def run(*command: str | Path) -> None:
    """Show a command and run it, without what this machine configures for uv and pip."""
    print("+", *command, flush=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_", "PYTHONPATH"))}
    clean["PYTHONDONTWRITEBYTECODE"] = ""  # without byte code each process that a test starts would compile everything
    subprocess.run(command, check=True, cwd=ROOT, env=clean)


def main() -> None:
    """Make the environment and run the tests in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["oldest", "newest"])
    parser.add_argument("tests", nargs="*", help="instead of all of them")
    given = parser.parse_args()
    uv = Path(sys.executable).parent / "uv"
    environment = ROOT / ".venv" / given.which
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    run(uv, "venv", "--no-config", "--quiet", "--clear", "--python", version, environment)
    install = [uv, "pip", "install", "--no-config", "--quiet", "--python", environment]
    if given.which == "oldest":
        run(*install, "--resolution", "lowest-direct", ".[datasets,review]", *TOOLS)
        tests = given.tests or WITHOUT_TORCH
    else:
        run(*install, ".[train,ray,dev]")
        tests = given.tests or ["tests"]
    run(uv, "pip", "list", "--quiet", "--python", environment)
    several = ["--numprocesses", str(os.cpu_count() or 1), "--dist", "worksteal"]
    run(environment / "bin" / "python", "-m", "pytest", *several, *tests)


if __name__ == "__main__":
    main()
