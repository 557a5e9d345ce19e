"""`PullLog`: what was pulled into a data set's folder, so that a pull goes on where it stopped."""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mammoscope.datasets.errors import DatasetError

PULLED = "pull.jsonl"
"""The log in a data set's folder: one JSON object a line, of the secret of its pseudonyms and of studies that came."""


class PullLog:
    """A file of JSON lines that is only ever added to; open it by `open_pull_log`."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.studies: set[str] = set()
        """Those that need not be fetched again."""
        self._secret = ""
        for line in file:
            self._take(line)
        if not self._secret:
            self._secret = secrets.token_hex(32)
            self._add({"secret": self._secret})

    def note_study(self, study: str, images: int) -> None:
        """Note that all of a study that can be had is here; on the disk when this returns."""
        self._add({"study": study, "images": images})
        self.studies.add(study)

    def pseudonym(self, patient: str) -> str:
        """What a patient is called in file names and tables: always the same in one folder, another in the next."""
        digest = hmac.new(bytes.fromhex(self._secret), patient.encode(), hashlib.sha256)
        return f"P{digest.hexdigest()[:12]}"

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if "secret" in entry:
                self._secret = bytes.fromhex(entry["secret"]).hex()
            else:
                self.studies.add(str(entry["study"]))
        except (ValueError, KeyError, TypeError):
            return  # cut short by a crash: that study is fetched again

    def _add(self, entry: dict[str, object]) -> None:
        # The empty line keeps a line that a crash cut short from swallowing this one.
        self._file.write(f"\n{json.dumps(entry)}\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_pull_log(folder: Path) -> Iterator[PullLog]:
    """The log of a folder, which nobody else can open meanwhile.

    Raises
    ------
    DatasetError
        If another pull has it, or it cannot be read or written.
    """
    path = folder / PULLED
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(f"another pull into {folder} is at work: wait for its end.") from None
            file.seek(0)
            yield PullLog(file)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read or written: {error.strerror or error}.") from None
