"""Which patients and images a model knows already, as hashes: what it learnt from, was chosen on, was calibrated on.

A hash lets whoever holds a patient's identifier find out whether that patient was used; it does not give identifiers
away to whoever holds only the bundle. It is no protection against guessing short identifiers: whoever can list them
all can hash them all, so identifiers have to be pseudonyms, as everywhere in a data set.
"""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict

_BYTES = 8  # of 10,000 patients two share a hash with a probability of 3e-12


class DataRole(StrEnum):
    """What a model's maker did with images."""

    TRAINED = "trained on"
    CHOSEN = "chosen on"
    """Weights, settings or the operating point were chosen by figures on them."""
    CALIBRATED = "calibrated on"
    EVALUATED = "evaluated on"


class KnownData(BaseModel):
    """The patients and images of one role.

    Parameters
    ----------
    data
        Data set and split, in words.
    salt
        Hexadecimal; the key of every hash, so that hashes of two data sets cannot be looked up in one table.
    patients
        Hashes of the data set's identifiers of patients, sorted.
    images
        Hashes of the SHA-256 of the image files, sorted; empty where they are not known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: DataRole
    data: str
    salt: str
    patients: tuple[str, ...]
    images: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, role: DataRole, data: str, patients: Iterable[str], image_hashes: Iterable[str] = (), *, salt: str
    ) -> Self:
        """The hashes of some patients and images.

        Parameters
        ----------
        patients
            Identifiers as the data set has them.
        image_hashes
            SHA-256 of the image files.
        salt
            Any text that is the data set's own, for example its fingerprint.
        """
        key = hashlib.sha256(salt.encode()).hexdigest()[:16]
        return cls(
            role=role,
            data=data,
            salt=key,
            patients=tuple(sorted({hashed(one, key) for one in patients})),
            images=tuple(sorted({hashed(one, key) for one in image_hashes})),
        )


def hashed(identifier: str, salt: str) -> str:
    """BLAKE2b of an identifier keyed with a salt, 16 hexadecimal digits."""
    return hashlib.blake2b(identifier.encode(), key=salt.encode(), digest_size=_BYTES).hexdigest()
