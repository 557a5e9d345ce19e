"""The reading room's scripts: their types checked by TypeScript, and the OpenLayers that they use bundled anew.

    python tools/reading_room_scripts.py check     # what a test does, too
    python tools/reading_room_scripts.py bundle    # writes static/vendor/openlayers.js

Needs npm, which fetches the versions of ``tools/reading_room_scripts/package-lock.json`` once and keeps them outside of
the repository. Whoever uses Mammoscope needs none of it: the scripts are served as they are written.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "tools" / "reading_room_scripts"
STATIC = ROOT / "src" / "mammoscope" / "review" / "static"
ENTRY = "openlayers-entry.js"
BUNDLE = STATIC / "vendor" / "openlayers.js"


def packages(npm: str) -> Path:
    """The folder ``node_modules`` with the locked versions, fetched from the registry that npm knows, once."""
    made_of = [HERE / name for name in ("package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in made_of)).hexdigest()[:12]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("MAMMOSCOPE_VIEWERS") or home / "mammoscope-viewers")
    folder = cache / f"scripts-{digest}" / "node_modules"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            for file in made_of:
                shutil.copy(file, name)
            quiet = ("--no-audit", "--no-fund", "--silent", "--ignore-scripts")
            subprocess.run([npm, "ci", *quiet], cwd=name, check=True, timeout=600)
            Path(name, "node_modules").rename(folder)
    return folder


def type_errors(npm: str, static: Path = STATIC) -> str:
    """What TypeScript finds wrong with the scripts of a folder; empty where it finds nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "node_modules").symlink_to(packages(npm))
        shutil.copy(HERE / "tsconfig.json", folder)
        shutil.copytree(static, folder / "static", ignore=shutil.ignore_patterns("*.svg", "*.css", "vendor"))
        # The bundle has no types; the modules that it is made of have.
        (folder / "static" / "vendor").mkdir()
        shutil.copy(HERE / ENTRY, folder / "static" / "vendor" / "openlayers.js")
        done = subprocess.run(
            [folder / "node_modules" / ".bin" / "tsc", "--project", folder, "--pretty", "false"],
            capture_output=True, text=True, check=False, timeout=600, cwd=folder,
        )  # fmt: skip
    return done.stdout + done.stderr if done.returncode else ""


def bundled(npm: str) -> bytes:
    """What ``static/vendor/openlayers.js`` has to be."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "node_modules").symlink_to(packages(npm))
        shutil.copy(HERE / ENTRY, folder)
        options = ("--bundle", "--format=esm", "--minify", "--log-level=error", "--outfile=openlayers.js")
        bundler = folder / "node_modules" / ".bin" / "esbuild"
        subprocess.run([bundler, ENTRY, *options], cwd=folder, check=True, timeout=300)
        return (folder / "openlayers.js").read_bytes()


def main() -> None:
    """Check, or bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("check", "bundle"))
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not installed (Debian's package npm).")
    if parser.parse_args().task == "bundle":
        BUNDLE.write_bytes(bundled(npm))
        return
    if errors := type_errors(npm):
        sys.exit(errors)


if __name__ == "__main__":
    main()
