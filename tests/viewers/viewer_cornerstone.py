"""Cornerstone's adapters and dcmjs in node.js: what OHIF reads reports and segmentations with."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from viewer_ohif import cache

HERE = Path(__file__).resolve().parent / "cornerstone"
MADE_OF = ("package.json", "package-lock.json", "entry.mjs")


def bundle(npm: str) -> Path:
    """The adapters in one file, fetched from the registry that npm knows and bundled, once."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in MADE_OF)).hexdigest()[:12]
    file = cache() / f"cornerstone-{digest}.cjs"
    if not file.is_file():
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as name:
            folder = Path(name)
            for part in MADE_OF:
                shutil.copy(HERE / part, folder)
            quiet = ("--no-audit", "--no-fund", "--silent", "--ignore-scripts", "--legacy-peer-deps")
            subprocess.run([npm, "ci", *quiet], cwd=folder, check=True, timeout=600)
            bundler = folder / "node_modules" / ".bin" / "esbuild"
            options = ("--bundle", "--format=cjs", "--platform=node", "--outfile=bundle.cjs", "--log-level=error")
            subprocess.run([bundler, "entry.mjs", *options], cwd=folder, check=True, timeout=300)
            (folder / "bundle.cjs").rename(file)
    return file


def read(node: str, npm: str, files: Iterable[Path]) -> dict[str, Any]:
    """What they find in reports and segmentations, given with their images."""
    done = subprocess.run(
        [node, HERE / "read.cjs", *files],
        env={**os.environ, "BUNDLE": str(bundle(npm))},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return dict(json.loads(done.stdout))
