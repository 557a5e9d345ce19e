"""`PullLedger`: which studies of an archive were fetched, so that none is fetched twice."""

import fcntl
import json
import os
import threading
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mammoscope.node.storage.durable_files import sync


class PullLedger:
    """A file of JSON lines, one a study that was fetched or tried, or a day up to which all was; only ever added to.

    A node that polls an archive and a command that pulls from it may share it. Safe to use from several threads.

    Parameters
    ----------
    folder
        Where ledgers lie.
    source
        Name of the archive.

    Raises
    ------
    OSError
        If it cannot be read or written.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.file = folder / f"{quote(source, safe=' ')}.jsonl"
        self._lock = threading.Lock()
        self._read_to = 0
        self._fetched: dict[str, int] = {}
        self._instances: dict[str, frozenset[str]] = {}
        self._tries: dict[str, int] = {}
        self._polled: date | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if not self.file.exists():
            self.file.touch()
            sync(folder)

    def fetched(self, study: str) -> int | None:
        """How many objects a study had in the archive when it was last compared; ``None`` if it was not fetched."""
        with self._lock:
            self._catch_up()
            return self._fetched.get(study)

    def instances(self, study: str) -> frozenset[str]:
        """SOP Instance UIDs that the archive had of a study when it was fetched last; empty where not known."""
        with self._lock:
            self._catch_up()
            return self._instances.get(study, frozenset())

    def note_fetched(self, study: str, objects: int, instances: Collection[str] = ()) -> None:
        """Note that all of a study's objects were fetched, or none is missing here; on the disk when this returns.

        Parameters
        ----------
        objects
            How many the archive has.
        instances
            Their SOP Instance UIDs.
        """
        self._add({"study": study, "objects": objects, "instances": sorted(instances)})

    def note_try(self, study: str) -> int:
        """Note that not all of a study came; return how often that was so since it was fetched last."""
        with self._lock:
            self._catch_up()
            tries = self._tries.get(study, 0) + 1
        self._add({"study": study, "tries": tries})
        return tries

    @property
    def polled(self) -> date | None:
        """The last day up to which the archive was asked for new studies and all of them were fetched."""
        with self._lock:
            self._catch_up()
            return self._polled

    def note_polled(self, day: date) -> None:
        """Note that all studies up to a day were fetched; on the disk when this returns."""
        self._add({"polled": day.isoformat()})

    def _add(self, entry: dict[str, Any]) -> None:
        with self._lock, self.file.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if end:  # a line that a crash cut short stays alone on its line, and is passed over
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _catch_up(self) -> None:
        """Read what was added since, by whomever."""
        with self.file.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):  # being written now
                    break
                self._read_to += len(line)
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if "polled" in entry:
                self._polled = date.fromisoformat(entry["polled"])
            elif "tries" in entry:
                self._tries[str(entry["study"])] = int(entry["tries"])
            else:
                self._fetched[str(entry["study"])] = int(entry["objects"])
                self._instances[str(entry["study"])] = frozenset(map(str, entry.get("instances", ())))
                self._tries.pop(entry["study"], None)
        except (ValueError, KeyError, TypeError):
            return  # cut short by a crash: what it told of is fetched again
