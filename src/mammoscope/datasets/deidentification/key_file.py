"""The key file: who is behind a pseudonym. Kept apart from everything that leaves the house."""

import base64
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any

from mammoscope.datasets.dataset import ANNOTATIONS
from mammoscope.datasets.errors import DatasetError
from mammoscope.lifecycle import Closing

_VERSION = 1
_MOST_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Pseudonym:
    """What stands for a patient.

    Parameters
    ----------
    name
        Patient ID and Patient's Name of the output.
    days
        How many days each of the patient's dates is moved; negative, 1 to 3650 days back.
    """

    name: str
    days: int


class KeyFile(Closing):
    """Pseudonyms, date offsets and the secret that makes them; one JSON object a line, the secret in the first.

    The file is made with the mode 0600, locked while it is open and only added to: over any number of runs the same
    patient has the same pseudonym and the same UID the same replacement.

    Parameters
    ----------
    path
        Made if it is not there.
    apart_from
        Folders that it must not lie in.

    Raises
    ------
    DatasetError
        If it lies in one of them or in a data set's folder, if others may read it, if another process has it open, if
        it is no key file or is damaged, or if it cannot be written.
    """

    def __init__(self, path: Path, apart_from: Iterable[Path] = ()) -> None:
        self.path = path
        _check_place(path, apart_from)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DatasetError(f"the key file {path} cannot be opened: {error.strerror}.") from None
        self._file: BufferedRandom = os.fdopen(descriptor, "r+b")
        try:
            self._lock()
            self._secret, self._patients = self._load()
        except BaseException:
            self._file.close()
            raise

    def pseudonym(self, patient_id: str, issuer: str) -> Pseudonym:
        """The patient's pseudonym, written down before it is handed out.

        Parameters
        ----------
        patient_id, issuer
            Patient ID (0010,0020) and Issuer of Patient ID (0010,0021).
        """
        known = self._patients.get((patient_id, issuer))
        if known is not None:
            return known
        digest = self._digest("patient", issuer, patient_id)
        days = -1 - int.from_bytes(digest[16:20], "big") % _MOST_DAYS
        made = Pseudonym(f"P{base64.b32encode(digest[:8]).decode()[:12]}", days)
        self._append({"pseudonym": made.name, "patient_id": patient_id, "issuer": issuer, "days_shifted": made.days})
        self._patients[patient_id, issuer] = made
        return made

    def uid(self, original: str) -> str:
        """The UID that replaces another one: under 2.25 (PS3.5 B.2), not to be led back without the secret."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', original)[:16], version=5).int}"

    @property
    def fingerprint(self) -> str:
        """Tells one key file from another without saying anything of its secret."""
        return self._digest("fingerprint").hex()[:16]

    def close(self) -> None:
        """Close the file, which unlocks it."""
        self._file.close()

    def _lock(self) -> None:
        mode = stat.S_IMODE(os.fstat(self._file.fileno()).st_mode)
        if mode & 0o077:
            raise DatasetError(
                f"the key file {self.path} may be read or written by others (mode {mode:04o}): chmod 600 it."
            )
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DatasetError(f"the key file {self.path} is in use by another run: wait until it is done.") from None

    def _load(self) -> tuple[bytes, dict[tuple[str, str], Pseudonym]]:
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            if whole == 0:
                raise DatasetError(f"{self.path} is no key file: name a new file, or the key file of an earlier run.")
            self._file.truncate(whole)  # a line cut by a crash, of a patient of whom nothing was written yet
        lines = content[:whole].splitlines()
        if not lines:
            secret = secrets.token_bytes(32)
            self._append({"mammoscope_keys": _VERSION, "secret": secret.hex()})
            return secret, {}
        try:
            head = json.loads(lines[0])
            if head["mammoscope_keys"] != _VERSION:
                raise ValueError  # noqa: TRY301 - told with the others
            secret = bytes.fromhex(head["secret"])
        except (ValueError, KeyError, TypeError):
            raise DatasetError(
                f"{self.path} is no key file: name a new file, or the key file of an earlier run."
            ) from None
        return secret, dict(self._patient(number, line) for number, line in enumerate(lines[1:], start=2))

    def _patient(self, number: int, line: bytes) -> tuple[tuple[str, str], Pseudonym]:
        try:
            entry = json.loads(line)
            return (entry["patient_id"], entry["issuer"]), Pseudonym(entry["pseudonym"], int(entry["days_shifted"]))
        except (ValueError, KeyError, TypeError):
            raise DatasetError(
                f"line {number} of the key file {self.path} is damaged: take the file from its backup."
            ) from None

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DatasetError(f"the key file {self.path} cannot be written: {error.strerror}.") from None

    def _digest(self, *parts: str) -> bytes:
        # json keeps ("a", "bc") and ("ab", "c") apart
        return hmac.new(self._secret, json.dumps(parts).encode(), hashlib.sha256).digest()


def _check_place(path: Path, apart_from: Iterable[Path]) -> None:
    place = path.resolve()
    for folder in apart_from:
        if place.is_relative_to(folder.resolve()):
            raise DatasetError(f"the key file {path} would lie inside {folder}: keep it apart from the images.")
    for folder in place.parents:
        if (folder / ANNOTATIONS).is_file():
            raise DatasetError(f"the key file {path} would lie inside the data set {folder}: keep it apart from it.")
