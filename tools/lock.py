"""Write requirements/core.txt, review.txt, dev.txt and build.txt: the versions that are tested, with hashes.

Without ``--upgrade`` the versions that are locked stay where pyproject.toml allows them, and only what is new is added.
No configuration of this machine gets in: neither the address of a registry nor files that lie here only.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
HEADER = "# Made by 'make lock' from pyproject.toml; not to be edited.\n"
PYTHON = "3.11"  # the oldest supported; markers say what newer ones need


def compile_lock(name: str, *arguments: str, upgrade: bool) -> None:
    """Write one file; its versions agree with those of core.txt."""
    out = FOLDER / f"{name}.txt"
    command = [
        "uv", "pip", "compile", "--quiet", "--no-config", "--universal", "--python-version", PYTHON,
        "--generate-hashes",
        "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--output-file", str(out), *arguments,
    ]  # fmt: skip
    if upgrade:
        command.append("--upgrade")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_"))}
    clean["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{clean.get('PATH', '')}"
    subprocess.run(command, check=True, cwd=ROOT, env=clean)
    text = out.read_text()
    if "://" in text:
        raise SystemExit(f"{out} holds an address")
    out.write_text(HEADER + text)


def main() -> None:
    """Write the four files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    upgrade = parser.parse_args().upgrade
    FOLDER.mkdir(exist_ok=True)
    compile_lock("core", "pyproject.toml", upgrade=upgrade)
    within_core = "--constraints", "requirements/core.txt"
    compile_lock("review", "pyproject.toml", "--extra", "review", *within_core, upgrade=upgrade)
    within_review = "--constraints", "requirements/review.txt"
    compile_lock("dev", "pyproject.toml", "--all-extras", *within_review, upgrade=upgrade)
    compile_lock("build", "--group", "build", "--constraints", "requirements/dev.txt", upgrade=upgrade)


if __name__ == "__main__":
    main()
