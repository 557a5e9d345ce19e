"""Cornerstone's adapters and dcmjs in node.js: what OHIF reads reports and segmentations with."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from viewer_ohif import bundled, cache

HERE = Path(__file__).resolve().parent / "cornerstone"
MADE_OF = ("package.json", "package-lock.json", "entry.mjs")


def bundle(npm: str) -> Path:
    """The adapters in one file, fetched from the registry that npm knows and bundled, once."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in MADE_OF)).hexdigest()[:12]
    file = cache() / f"cornerstone-{digest}.cjs"
    return bundled(npm, (HERE / name for name in MADE_OF), "entry.mjs", "node", file)


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
