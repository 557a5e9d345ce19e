"""`AuditTrail`: append-only files, a new one each month, each line bound to the one before it, so that a change shows.

A line is one JSON object. Its ``previous`` is the SHA-256 of the line before, over all files in the order of their
names; ``head`` holds the number and the hash of the last line, so that a cut at the end shows too.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mammoscope.node.storage.durable_files import sync

FIRST = "0" * 64
"""What the very first line names as the hash before it."""


LARGEST_FILE = 2**26
"""Bytes, after which the month continues in another file: ``2026-11.jsonl``, ``2026-11_002.jsonl`` ..."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two lines of a trail.

    Parameters
    ----------
    file
        Name of the file.
    offset
        Bytes into it.
    """

    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of a trail found.

    Parameters
    ----------
    lines
        How many there are.
    problems
        One sentence each; none when the trail is whole.
    """

    lines: int
    problems: tuple[str, ...]


class AuditTrail:
    """The trail in a folder. Several processes may append to it.

    Parameters
    ----------
    folder
        Made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, facts: Sequence[Mapping[str, object]]) -> None:
        """Add one line for each; all are synced to disk when this returns.

        Raises
        ------
        OSError
            If they cannot be written; then none of them counts.
        """
        with self._locked():
            file = self._file_to_append_to()
            number, previous = self._last()
            lines = []
            for fact in facts:
                number += 1
                line = json.dumps({"number": number, **fact, "previous": previous}, separators=(",", ":")).encode()
                previous = hashlib.sha256(line).hexdigest()
                lines.append(line + b"\n")
            is_new = not file.exists()
            _append_all(file, b"".join(lines))
            if is_new:
                sync(self._folder)
            self._write_head(number, previous)

    def end(self) -> Position:
        """The place after the last line."""
        files = self._files()
        return Position(files[-1].name, files[-1].stat().st_size) if files else Position("", 0)

    def lines_after(self, position: Position, limit: int) -> Iterator[tuple[bytes, Position]]:
        """Yield up to so many whole lines after a place, each with the place after it."""
        for file in self._files():
            if file.name < position.file:
                continue
            offset = position.offset if file.name == position.file else 0
            with file.open("rb") as lines:
                lines.seek(offset)
                for line in lines:
                    if limit == 0 or not line.endswith(b"\n"):  # the rest is being written
                        return
                    limit -= 1
                    offset += len(line)
                    yield line.rstrip(b"\n"), Position(file.name, offset)

    def last(self, limit: int) -> list[dict[str, object]]:
        """The last lines, the newest first; damaged ones are left out."""
        found: list[dict[str, object]] = []
        for file in reversed(self._files()):
            for line in reversed(file.read_bytes().split(b"\n")[:-1]):
                if len(found) == limit:
                    return found
                if (said := _parse(line)) is not None:
                    found.append(said)
        return found

    def verify(self) -> Verification:
        """Check every line against the one before it, and the last against ``head``."""
        problems: list[str] = []
        head = self._head()
        reaches_head = head is None
        number, previous = 0, FIRST
        for file in self._files():
            for at, raw in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
                said = _parse(raw)
                if said is None:
                    problems.append(f"{file.name} line {at} is damaged: it is no JSON object")
                elif said.get("previous") != previous or said.get("number") != number + 1:
                    problems.append(
                        f"{file.name} line {at} does not follow from the line before it: one of the two was changed, or"
                        " lines between them were cut out"
                    )
                told = said.get("number") if said is not None else None
                number = told if isinstance(told, int) else number + 1
                previous = hashlib.sha256(raw).hexdigest()
                reaches_head = reaches_head or head == (number, previous)
        if not reaches_head and head is not None:
            problems.append(f"line number {head[0]}, the last one written, is missing or was changed")
        return Verification(sum(file.read_bytes().count(b"\n") for file in self._files()), tuple(problems))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.jsonl"))

    def _file_to_append_to(self) -> Path:
        # Not an earlier month than the last, even if the clock went back: the order of names is that of the chain.
        month = f"{datetime.now(UTC):%Y-%m}.jsonl"
        last = self._folder / max([month, *(file.name for file in self._files())])
        if not last.exists() or last.stat().st_size < LARGEST_FILE:
            return last
        month, _, part = last.stem.partition("_")
        return self._folder / f"{month}_{int(part or 1) + 1:03d}.jsonl"

    def _last(self) -> tuple[int, str]:
        """Number and hash of the last whole line; what a power cut left of one behind it is taken away."""
        for file in reversed(self._files()):
            line = _last_line(file)
            if line is not None:
                said = _parse(line) or {}
                number = said.get("number")
                if not isinstance(number, int):
                    number = (self._head() or (0, ""))[0]
                return number, hashlib.sha256(line).hexdigest()
        return 0, FIRST

    def _head(self) -> tuple[int, str] | None:
        try:
            said = json.loads((self._folder / "head").read_bytes())
            return int(said["number"]), str(said["hash"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return 0, "unreadable"

    def _write_head(self, number: int, last: str) -> None:
        # Not synced: after a power cut it may name an earlier line, which `verify` finds in the chain all the same.
        partial = self._folder / ".head.part"
        partial.write_text(json.dumps({"number": number, "hash": last}) + "\n", encoding="utf-8")
        partial.replace(self._folder / "head")


def _append_all(file: Path, lines: bytes) -> None:
    with file.open("ab", buffering=0) as output:
        before = output.tell()
        try:
            while lines:
                lines = lines[output.write(lines) :]
            os.fsync(output.fileno())
        except OSError:
            output.truncate(before)  # a part that a full disk let through
            raise


def _last_line(file: Path) -> bytes | None:
    """The last whole line; what follows it without an end is cut off."""
    with file.open("r+b") as lines:
        size = lines.seek(0, os.SEEK_END)
        tail, start = b"", size
        while start > 0 and tail.count(b"\n") < 2:
            start = max(0, start - 65536)
            lines.seek(start)
            tail = lines.read(size - start)
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail):
            lines.truncate(start + whole)
    return tail[: whole - 1].split(b"\n")[-1] if whole else None


def _parse(line: bytes) -> dict[str, object] | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
