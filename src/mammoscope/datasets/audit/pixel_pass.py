"""The pixel pass: every file measured once, on all cores, and what was measured kept for the next time."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mammoscope.cluster import Spread
from mammoscope.datasets.audit.measures import VERSION, Measures, measure
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import sha256_of_file
from mammoscope.imaging import MammogramReader

CACHE = ".audit"
"""The folder within a data set's folder that holds what was measured; it may be removed at any time."""

_FILE = "measures.jsonl"
BATCH = 32
"""Files that another machine is given at once."""

_AHEAD = 4  # files asked for per process: enough to keep all busy, few enough to hold

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file to measure: its image's id and its name within ``images/``."""

    image_id: int
    name: str
    path: Path


def measure_files(
    folder: Path,
    files: Sequence[ImageFile],
    *,
    resume: bool = False,
    jobs: int | None = None,
    reader: MammogramReader | None = None,
    spread: Spread | None = None,
    progress: Progress | None = None,
) -> dict[int, Measures]:
    """Measures of every file, by image id.

    What is measured is written at once, so that a pass that was ended goes on where it stood.

    Parameters
    ----------
    resume
        Believe what an earlier pass measured of files with the same size and time, or the same SHA-256.
    jobs
        How many processes decode; all cores by default.
    reader
        Decodes instead of a reader of its own; it stays open.
    spread
        Other machines that measure; ``None`` for this one.

    Raises
    ------
    DatasetError
        If what is measured cannot be kept.
    """
    known = _read(folder / CACHE / _FILE) if resume else {}
    found: dict[int, Measures] = {}
    todo: list[ImageFile] = []
    for file in files:
        kept = _kept(file, known)
        if kept is None:
            todo.append(file)
        else:
            found[file.image_id] = kept
    if progress:
        progress(len(found), len(files))
    try:
        (folder / CACHE).mkdir(exist_ok=True)
        with (folder / CACHE / _FILE).open("ab" if resume else "wb") as cache:
            if cache.tell():
                cache.write(b"\n")  # ends a line that a pass which was killed left unfinished
            done = _measured_here(todo, reader, jobs) if spread is None else _measured_elsewhere(todo, spread)
            for file, facts, measures in done:
                found[file.image_id] = measures
                line = {"version": VERSION, "name": file.name, "file": facts, "measures": measures.to_json()}
                cache.write(json.dumps(line).encode() + b"\n")
                cache.flush()
                if progress:
                    progress(len(found), len(files))
    except OSError as error:
        raise DatasetError(f"{folder / CACHE} cannot be written: {error.strerror or error}.") from None
    return found


_Stamp = tuple[int, int] | None
_Done = tuple[ImageFile, _Stamp, Measures]


def _measured_here(todo: Sequence[ImageFile], reader: MammogramReader | None, jobs: int | None) -> Iterator[_Done]:
    """(file, its size and time, its measures) as they are done, never more than a few of each process held."""
    workers = jobs or os.cpu_count() or 1
    waiting: dict[Future[Measures], tuple[ImageFile, _Stamp]] = {}
    upcoming = iter(todo)
    with (
        MammogramReader(workers) if reader is None else nullcontext(reader) as decoder,
        ThreadPoolExecutor(workers) as pool,
    ):
        while True:
            while len(waiting) < workers * _AHEAD and (file := next(upcoming, None)) is not None:
                waiting[pool.submit(measure, file.path, decoder, file.name)] = (file, _stamp(file.path))
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                file, stamp = waiting.pop(future)
                yield file, stamp, future.result()


def _measured_elsewhere(todo: Sequence[ImageFile], spread: Spread) -> Iterator[_Done]:
    """The same by other machines, in the order of the files."""
    batches = [[(file, _stamp(file.path)) for file in todo[n : n + BATCH]] for n in range(0, len(todo), BATCH)]
    results = spread(_measure_batch, [[(file.path.absolute(), file.name) for file, _ in batch] for batch in batches])
    for batch, measured in zip(batches, results, strict=True):
        for (file, stamp), measures in zip(batch, measured, strict=True):
            yield file, stamp, measures


def _measure_batch(files: Sequence[tuple[Path, str]]) -> list[Measures]:
    with MammogramReader() as reader:
        return [measure(path, reader, name) for path, name in files]


def _stamp(path: Path) -> _Stamp:
    """Size and time of a file."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _Kept:
    stamp: tuple[int, int]
    measures: Measures


def _kept(file: ImageFile, known: dict[str, _Kept]) -> Measures | None:
    kept, stamp = known.get(file.name), _stamp(file.path)
    if kept is None or stamp is None or kept.measures.unreadable is not None:  # a decoder may have been short of memory
        return None
    if kept.stamp == stamp:
        return kept.measures
    same = kept.stamp[0] == stamp[0] and kept.measures.file_sha256 == sha256_of_file(file.path)
    return kept.measures if same else None


def _read(path: Path) -> dict[str, _Kept]:
    """What earlier passes measured, by name; lines of other versions, or cut off, count for nothing."""
    known: dict[str, _Kept] = {}
    try:
        with path.open("rb") as lines:
            for line in lines:
                entry = _entry(line)
                if entry is not None:
                    known[entry[0]] = entry[1]
    except FileNotFoundError:
        pass
    return known


def _entry(line: bytes) -> tuple[str, _Kept] | None:
    try:
        entry = json.loads(line)
        if entry["version"] != VERSION:
            return None
        size, mtime = entry["file"]
        return str(entry["name"]), _Kept((int(size), int(mtime)), Measures.from_json(entry["measures"]))
    except (ValueError, TypeError, KeyError):
        return None
