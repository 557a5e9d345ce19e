"""Finding a study by its Accession Number, of which the database keeps a digest only.

The digest is made with a key that lies in the storage folder. Who has the database alone cannot try numbers out, and
who has both learns no number that he does not know already.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from mammoscope.errors import MammoscopeError
from mammoscope.node.storage.durable_files import sync

FILE = "accession.key"
KEY_BYTES = 32


class AccessionDigests:
    """Makes the digests of one storage folder; its workers share the key.

    Parameters
    ----------
    storage
        The storage folder; the key is made at the first digest.
    """

    def __init__(self, storage: Path) -> None:
        self._file = storage / FILE
        self._key: bytes | None = None

    @property
    def has_key(self) -> bool:
        """Whether there is a key; without one no digest was ever made."""
        return self._file.exists()

    def digest(self, number: str) -> str | None:
        """The digest of an Accession Number, as 64 hexadecimal digits; ``None`` for an empty one.

        Raises
        ------
        OSError
            If the key cannot be read or made.
        MammoscopeError
            If its file holds no key.
        """
        number = number.strip(" \0")
        if not number:
            return None
        return hmac.new(self._the_key(), number.encode(), hashlib.sha256).hexdigest()

    def _the_key(self) -> bytes:
        if self._key is None:
            try:
                key = self._file.read_bytes()
            except FileNotFoundError:
                key = self._made()
            if len(key) != KEY_BYTES:
                raise MammoscopeError(
                    f"{self._file} holds no key of {KEY_BYTES} bytes: put it back from a backup, or delete it (studies"
                    " received before are then not found by accession number)"
                )
            self._key = key
        return self._key

    def _made(self) -> bytes:
        """A new key, whole on the disk before anybody uses it; that of another process that was faster."""
        partial = self._file.with_name(f".{FILE}.{os.getpid()}.part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, self._file)  # unlike a rename it never replaces a key that is in use
        except FileExistsError:
            pass
        finally:
            partial.unlink()
        sync(self._file.parent)
        return self._file.read_bytes()
