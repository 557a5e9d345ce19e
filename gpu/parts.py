"""Archives on their way home in small parts, with a manifest and hashes; and put together again.

What a lent machine gives back may be limited in files, in bytes a file and in bytes altogether, and only at the end of
each command. So an archive is cut into parts; what finds no room waits for the next command.
"""

import hashlib
import json
import os
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
MIB = 2**20
_DRAFT = ".draft"
_CHUNK = MIB


class PartsError(Exception):
    """One sentence on what is wrong with parts, a pack or a plan."""


@dataclass(frozen=True)
class Archive:
    """An archive in the manifest.

    Parameters
    ----------
    name
        Of what is in it: a stage's.
    worth
        The lowest goes first.
    made
        When, in nanoseconds since 1970: of one name the newest replaces the others.
    key
        Its name and the start of its hash; a part is called ``KEY.NN``.
    parts
        SHA-256 of each part.
    """

    name: str
    worth: int
    made: int
    key: str
    sha256: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """What may come home from one command."""

    files: int = 8
    part_bytes: int = 15 * MIB
    total_bytes: int = 62 * MIB


@dataclass(frozen=True)
class _Part:
    name: str
    file: Path
    start: int
    size: int

    def read(self) -> bytes:
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(self.size)


class Outbox:
    """Fills a folder with parts, the most worthy first, and remembers in ``memory`` what earlier folders got."""

    def __init__(self, folder: Path, memory: Path, limits: Limits) -> None:
        self._folder, self._memory, self._limits = folder, memory, limits
        folder.mkdir(parents=True, exist_ok=True)
        memory.mkdir(parents=True, exist_ok=True)
        self._sent_before = {part for part in self._noted() if not (folder / part).is_file()}
        self.fill()

    def put(self, name: str, worth: int, files: dict[str, Path]) -> None:
        """Make an archive of files (name in it: path) and send as much of it as there is room for."""
        # By the clock: the next machine starts with an empty memory, and its archives are newer all the same.
        made = time.time_ns()
        draft = self._memory / f"{name}{_DRAFT}"
        with tarfile.open(draft, "w:gz", compresslevel=1) as tar:
            for inside, path in sorted(files.items()):
                tar.add(path, inside)
        whole = sha256_of(draft)
        key = f"{name}-{whole[:10]}"
        parts = tuple(_hashes_of_parts(draft, self._limits.part_bytes))
        draft.replace(self._memory / f"{key}.tar.gz")
        described = asdict(Archive(name, worth, made, key, whole, parts))
        write_whole(self._memory / f"{key}.json", json.dumps(described).encode())
        self.fill()

    def fill(self) -> None:
        """Send what was not sent yet, the most worthy first; the less worthy gives way."""
        wanted = self._wanted()
        there = {path.name: path.stat().st_size for path in self._folder.iterdir() if path.name != MANIFEST}
        self._remove(name for name in there if name.endswith(_DRAFT))
        surplus = there.keys() - wanted.keys()
        together = there | {name: part.size for name, part in wanted.items()}
        if not self._has_room(together.values()):
            self._remove(surplus)
        self._write_manifest()  # first: a part that it does not name is of no use
        for name in wanted.keys() - there.keys():
            write_whole(self._folder / name, wanted[name].read())
        self._remove(surplus)
        write_whole(self._memory / "sent.json", json.dumps(sorted(self._sent_before | wanted.keys())).encode())

    def _wanted(self) -> dict[str, "_Part"]:
        wanted: dict[str, _Part] = {}
        for archive in self._archives():
            for part in self._parts(archive):
                sizes = [*(other.size for other in wanted.values()), part.size]
                if part.name not in self._sent_before and self._has_room(sizes):
                    wanted[part.name] = part
        return wanted

    def _has_room(self, sizes: Iterable[int]) -> bool:
        sizes = list(sizes)
        # The manifest comes home too, and a draft may lie there when the machine is cut.
        return len(sizes) + 2 <= self._limits.files and sum(sizes) <= self._limits.total_bytes

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def _parts(self, archive: Archive) -> list["_Part"]:
        file, size = self._memory / f"{archive.key}.tar.gz", self._limits.part_bytes
        starts = range(0, file.stat().st_size, size)
        return [
            _Part(f"{archive.key}.{number:02}", file, start, min(size, file.stat().st_size - start))
            for number, start in enumerate(starts)
        ]

    @property
    def waiting(self) -> int:
        """How many parts found no room yet."""
        sent = self._noted()
        return sum(part.name not in sent for archive in self._archives() for part in self._parts(archive))

    def _noted(self) -> set[str]:
        file = self._memory / "sent.json"
        return set(json.loads(file.read_text())) if file.is_file() else set()

    def _write_manifest(self) -> None:
        described = {"archives": [asdict(archive) for archive in self._archives(every=True)]}
        write_whole(self._folder / MANIFEST, json.dumps(described, indent=1).encode())

    def _archives(self, *, every: bool = False) -> list[Archive]:
        """The newest of each name, the most worthy first."""
        found = [read_archive(json.loads(path.read_text())) for path in self._memory.glob("*-*.json")]
        newest = {archive.name: archive for archive in sorted(found, key=lambda archive: archive.made)}
        chosen = found if every else newest.values()
        return sorted(chosen, key=lambda archive: (archive.worth, archive.name))


def read_archive(described: dict[str, Any]) -> Archive:
    """An archive as a manifest describes it."""
    return Archive(**{**described, "parts": tuple(described["parts"])})


@dataclass(frozen=True)
class Joined:
    """What `join` found: what it unpacked, and what it could not, with the reason."""

    whole: tuple[str, ...]
    broken: dict[str, str]


def join(folders: Iterable[Path], to: Path) -> Joined:
    """Put together what came home in folders; of each name the newest archive that is whole is unpacked.

    Raises
    ------
    PartsError
        If a folder has no manifest that can be read.
    """
    folders = list(folders)
    archives = {archive.key: archive for folder in folders for archive in _manifest(folder)}
    whole: list[str] = []
    broken: dict[str, str] = {}
    for archive in sorted(archives.values(), key=lambda archive: -archive.made):
        if archive.name in whole:
            continue
        problem = _unpack(archive, folders, to)
        if problem is None:
            whole.append(archive.name)
            broken.pop(archive.name, None)
        else:
            broken.setdefault(archive.name, problem)
    return Joined(tuple(sorted(whole)), broken)


def _manifest(folder: Path) -> list[Archive]:
    try:
        described = json.loads((folder / MANIFEST).read_text())
        return [read_archive(archive) for archive in described["archives"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PartsError(f"{folder} has no {MANIFEST} that can be read: give the folders that came home") from error


def _unpack(archive: Archive, folders: list[Path], to: Path) -> str | None:
    """Unpack an archive into a folder of its name; else say why not."""
    to.mkdir(parents=True, exist_ok=True)
    draft = to / f"{archive.key}{_DRAFT}"
    try:
        with draft.open("wb") as stream:
            for number, expected in enumerate(archive.parts):
                part = _part(f"{archive.key}.{number:02}", expected, folders)
                if part is None:
                    return f"part {number + 1} of {len(archive.parts)} is missing or damaged"
                stream.write(part)
        if sha256_of(draft) != archive.sha256:
            return "its parts are whole but together they are not the archive"
        with tarfile.open(draft) as tar:
            tar.extractall(to / archive.name, filter="data")
    finally:
        draft.unlink(missing_ok=True)
    return None


def _part(name: str, expected: str, folders: list[Path]) -> bytes | None:
    for folder in folders:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() == expected:
                return content
    return None


def _hashes_of_parts(file: Path, size: int) -> Iterator[str]:
    with file.open("rb") as stream:
        while part := stream.read(size):
            yield hashlib.sha256(part).hexdigest()


def sha256_of(file: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that is either whole or not there (or still the one before)."""
    draft = file.with_name(f"{file.name}{_DRAFT}")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
