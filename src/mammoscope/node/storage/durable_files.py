"""Writing so that a power cut cannot take it back."""

import os
import shutil
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, that a power cut cannot take away with what is in it later."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync(path.parent)


def write_whole(path: Path, text: str) -> None:
    """Write or replace a text file: after a crash it is there as before or as now, never in part."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def move_folder(source: Path, target: Path) -> None:
    """Move a folder within the file system, replacing what lies at the target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    source.rename(target)
    for folder in dict.fromkeys((target.parent, source.parent)):
        sync(folder)
