"""Hashes of a data set's files: of their bytes, and of the pixels in them."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import sha256_of_file
from mammoscope.imaging import MammogramError, MammogramReader

Progress = Callable[[int, int], None]


class Hashes(StrEnum):
    """Which hashes are made."""

    NONE = "none"
    FILES = "files"
    PIXELS = "pixels"
    """Of files and of pixels."""


@dataclass(frozen=True, slots=True)
class FileHashes:
    """Size, time and hashes of one file; ``None`` for a hash that was not made, or of pixels that cannot be read."""

    file_bytes: int
    file_mtime_ns: int
    file_sha256: str | None = None
    pixel_sha256: str | None = None


def hash_files(
    paths: Sequence[Path],
    known: Mapping[str, FileHashes],
    folder: Path,
    hashes: Hashes,
    processes: int | None = None,
    progress: Progress | None = None,
) -> list[FileHashes]:
    """Sizes, times and hashes of files, those asked for made where they are not known.

    Parameters
    ----------
    known
        By name relative to ``folder``; it holds for files of that size and time.

    Raises
    ------
    DatasetError
        If a file cannot be read.
    """
    found = [_facts(path, known.get(path.relative_to(folder).as_posix())) for path in paths]
    if hashes is Hashes.NONE:
        return found
    todo = [n for n, facts in enumerate(found) if _lacks(facts, hashes)]
    workers = processes or os.cpu_count() or 1
    with MammogramReader(workers) as reader, ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda n: _hashed(paths[n], found[n], hashes, reader), todo)
        for count, (position, facts) in enumerate(zip(todo, done, strict=True), start=1):
            found[position] = facts
            if progress:
                progress(count, len(todo))
    return found


def pixel_sha256(path: Path, reader: MammogramReader) -> str | None:
    """SHA-256 over the size and the pixels of a mammogram as read; ``None`` when it cannot be read."""
    try:
        pixels = reader.read(path).pixels
    except MammogramError:
        return None
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.astype("<u2").tobytes()).hexdigest()


def _facts(path: Path, known: FileHashes | None) -> FileHashes:
    try:
        facts = path.stat()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    same = known is not None and (known.file_bytes, known.file_mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    return known if known is not None and same else FileHashes(facts.st_size, facts.st_mtime_ns)


def _lacks(facts: FileHashes, hashes: Hashes) -> bool:
    return facts.file_sha256 is None or (hashes is Hashes.PIXELS and facts.pixel_sha256 is None)


def _hashed(path: Path, facts: FileHashes, hashes: Hashes, reader: MammogramReader) -> FileHashes:
    try:
        of_file = facts.file_sha256 or sha256_of_file(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    of_pixels = facts.pixel_sha256 or (pixel_sha256(path, reader) if hashes is Hashes.PIXELS else None)
    return replace(facts, file_sha256=of_file, pixel_sha256=of_pixels)
