"""Plant faults in a copy of the sources, one at a time, and tell which the tests catch.

tools/mutants.toml holds the faults: the file, what is replaced by what, and the tests that should fail. A fault whose
text is no longer there is an error, so that the list stays true. The share that is caught is printed by room; exit
code 1 where one is not caught.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "tests", "recipes", "deploy", "docs", "tools", "requirements", ".ci")
MOST_SECONDS = 900.0  # a fault that makes a test wait for ever is caught


def caught(copy: Path, fault: dict[str, str], tests: list[str]) -> bool:
    """Whether one of the tests fails with the fault; the copy is as before afterwards.

    The tests that are named after the file go first: they tell soonest.
    """
    file = copy / "src" / "mammoscope" / fault["file"]
    named = sorted(copy.glob(f"tests/{Path(fault['file']).parent}/test_{file.stem}.py"))
    tests = [str(path.relative_to(copy)) for path in named] + tests
    whole = file.read_text()
    file.write_text(whole.replace(fault["old"], fault["new"], 1))
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1", "CI": ""}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        file.write_text(whole)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{fault['file']}: the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def main() -> None:
    """Plant the faults of the rooms that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", help="for example imaging node; all by default")
    given = parser.parse_args()
    rooms = tomllib.loads((ROOT / "tools" / "mutants.toml").read_text())
    if unknown := set(given.rooms) - set(rooms):
        parser.error(f"there are no faults for {', '.join(sorted(unknown))}, but for {', '.join(rooms)}")
    chosen = {name: room for name, room in rooms.items() if not given.rooms or name in given.rooms}
    for room in chosen.values():
        for fault in room["faults"]:
            if fault["old"] not in (ROOT / "src" / "mammoscope" / fault["file"]).read_text():
                raise SystemExit(f"{fault['file']} no longer has {fault['old']!r}: mend tools/mutants.toml")
    found, missed = Counter[str](), []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "mammoscope"
        for name in COPIED:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if (ROOT.parent / "shared").exists():
            (Path(folder) / "shared").symlink_to(ROOT.parent / "shared")
        for name, room in chosen.items():
            for fault in room["faults"]:
                started = time.monotonic()
                hit = caught(copy, fault, fault.get("tests", room["tests"]))
                found[name] += hit
                if not hit:
                    missed.append(fault)
                took = time.monotonic() - started
                print(f"{'caught' if hit else 'MISSED'} {took:5.0f} s  {fault['file']}: {fault['what']}", flush=True)
    for name, room in chosen.items():
        print(f"{name}: {found[name]} of {len(room['faults'])} caught")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
