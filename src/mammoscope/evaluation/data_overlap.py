"""Whether a model is evaluated on data that it knows: patients that it learnt from, was chosen or calibrated on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from mammoscope.datasets import AnnotatedDataset
from mammoscope.datasets.files import sha256_of_file
from mammoscope.inference import Bundle, DataRole, KnownData
from mammoscope.inference.data_roles import hashed

_CONSEQUENCES = {
    DataRole.TRAINED: "the model learnt from {}: its figures here say nothing about new patients",
    DataRole.CHOSEN: "the model or its operating point was chosen on {}: its figures here are optimistic",
    DataRole.CALIBRATED: "the model's scores were calibrated on {}: its calibration here is optimistic",
}
UNKNOWN_DATA = (
    "The model does not say which patients it learnt from, was chosen or calibrated on: whether these are among them "
    "is not known."
)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of the evaluated patients and images a model knows in one role.

    Parameters
    ----------
    patients, images
        Identifiers of patients that are the same, and image files that are the same to the byte.
    of_patients, of_images
        How many were evaluated.
    images_known
        Whether the model says which images it knows, so that ``images`` of 0 tells something.
    """

    role: DataRole
    data: str
    patients: int
    of_patients: int
    images: int
    of_images: int
    images_known: bool

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """An overlap from what `to_json` made."""
        return cls(**{**content, "role": DataRole(content["role"])})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "role": str(self.role),
            "data": self.data,
            "patients": self.patients,
            "of_patients": self.of_patients,
            "images": self.images,
            "of_images": self.of_images,
            "images_known": self.images_known,
        }

    def sentence(self) -> str:
        """What a reader of the figures has to know."""
        these = f"{self.patients} of these {self.of_patients} patients ({self.data})"
        said = _CONSEQUENCES[self.role].format(these)
        if self.images_known and not self.images:
            said += "; no image file is the same, so they may be other people of the same identifiers"
        elif self.images_known:
            said += f"; {self.images} of {self.of_images} image files are the same"
        return f"{said[0].upper()}{said[1:]}."


def known_data(
    role: DataRole, data: AnnotatedDataset, name: str | None = None, *, salt: str | None = None
) -> KnownData:
    """The hashes of a data set's patients and images.

    Parameters
    ----------
    name
        In words; ``None`` for the data set's name, split and size.
    salt
        ``None`` for the data set's fingerprint, which reads every image file.
    """
    split = f", split {data.split_name}" if data.split_name else ""
    told = f"{data.name}{split}, {len(data)} images of {len(data.patients)} patients"
    return KnownData.of(
        role,
        name or told,
        data.patients,
        (sha256_of_file(image.path) for image in data),
        salt=data.fingerprint() if salt is None else salt,
    )


def overlaps(known: Iterable[KnownData], data: AnnotatedDataset) -> tuple[Overlap, ...]:
    """Which roles have patients or images in common with a data set, those that matter most first."""
    known = [one for one in known if one.role in _CONSEQUENCES]
    files = [sha256_of_file(image.path) for image in data] if any(one.images for one in known) else []
    found = []
    for one in sorted(known, key=lambda one: list(_CONSEQUENCES).index(one.role)):
        patients, images = set(one.patients), set(one.images)
        overlap = Overlap(
            one.role,
            one.data,
            patients=sum(hashed(patient, one.salt) in patients for patient in data.patients),
            of_patients=len(data.patients),
            images=sum(hashed(file, one.salt) in images for file in files),
            of_images=len(data),
            images_known=bool(one.images),
        )
        if overlap.patients or overlap.images:
            found.append(overlap)
    return tuple(found)


def data_known_to(bundle: Bundle) -> tuple[KnownData, ...]:
    """What a bundle says of its data; for one made before bundles said it, the file ``NAME.known-data.json`` beside it.

    The file counts for the bundle whose version it names, no other.
    """
    if bundle.metadata.known_data:
        return bundle.metadata.known_data
    beside = Path(bundle.path).with_suffix(".known-data.json")
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
        if content["version"] != bundle.metadata.version:
            return ()
        return tuple(KnownData.model_validate(one) for one in content["known_data"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return ()


def overlap_notes(found: Sequence[Overlap], *, known: bool) -> list[str]:
    """Sentences on overlaps; on their being unknown where the model does not say what it knows."""
    return [overlap.sentence() for overlap in found] if known else [UNKNOWN_DATA]
