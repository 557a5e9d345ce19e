"""Health proved by traffic: what a phantom is, and how its last round fared.

A phantom is a synthetic study that goes in by the network, through the node, and whose results come back. It is told
from a patient by its Study Instance UID, which lies under `PHANTOM_ROOT`. Its results go to a receiver of the node's
own and nowhere else, and what is recorded of it is deleted once it came round.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from pydicom import FileDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing

from mammoscope.imaging import PresentationIntent
from mammoscope.node.disk import write_whole
from mammoscope.phantom import COLUMNS, ROWS, screening_study
from mammoscope.settings import DestinationSettings

PHANTOM_ROOT = "2.25.142014976573331604290964696774161782405"
"""Root of the UIDs of phantoms: a UUID (DICOM PS3.5 B.2), and below it the time of the round and the object."""
PHANTOM_DESTINATION = "(phantom)"
"""What records call the receiver that phantoms' results come back to."""

LOOPBACK = "127.0.0.1"
"""Where results come back to: the process that receives sends phantoms' results too, so nobody else need reach it."""

PHANTOM_RECEIVER = DestinationSettings(name=PHANTOM_DESTINATION, ae_title="PHANTOM", host=LOOPBACK, port=1)
"""Stands for the receiver where a process has none, so that the results of a phantom name it all the same."""


def is_phantom(study_instance_uid: str) -> bool:
    """Tell whether a study is a phantom's, of this node or of another."""
    return study_instance_uid.startswith(f"{PHANTOM_ROOT}.")


def phantom_images(
    study_instance_uid: str,
    rows: int = ROWS,
    columns: int = COLUMNS,
    intent: PresentationIntent = PresentationIntent.FOR_PRESENTATION,
) -> list[FileDataset]:
    """The four views of a synthetic study under the UIDs of one round.

    Parameters
    ----------
    intent
        What they say they are meant for; the pixels are the same.
    """
    images = [image.dataset for image in screening_study(0, rows=rows, columns=columns).images]
    for number, image in enumerate(images, start=1):
        image.StudyInstanceUID = study_instance_uid
        image.SeriesInstanceUID = f"{study_instance_uid}.0"
        image.SOPInstanceUID = f"{study_instance_uid}.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        if intent is PresentationIntent.FOR_PROCESSING:
            image.SOPClassUID = DigitalMammographyXRayImageStorageForProcessing
            image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
            image.PresentationIntentType = str(intent)
        image.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    return images


@dataclass(frozen=True, slots=True)
class PhantomRound:
    """One round.

    Parameters
    ----------
    study
        Its Study Instance UID.
    at
        When it was sent.
    came_round
        Whether all its results came back in time and every image was processed.
    reason
        Why it did not; ``None`` if it did.
    hops
        Seconds of ``receive`` (until all images were acknowledged), ``wait`` (until the reading began), ``read`` and
        ``return`` (from the results to their coming back), as far as it came.
    findings
        In all its images.
    """

    study: str
    at: datetime
    came_round: bool
    reason: str | None = None
    hops: Mapping[str, float] = field(default_factory=dict)
    findings: int = 0


class LastRound:
    """The last round as the storage folder keeps it, for those who ask beside the node."""

    def __init__(self, storage: Path) -> None:
        self._file = storage / "phantom" / "last.json"

    def load(self) -> PhantomRound | None:
        """Read it; ``None`` before the first."""
        try:
            said = json.loads(self._file.read_bytes())
            return PhantomRound(**{**said, "at": datetime.fromisoformat(said["at"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, done: PhantomRound) -> None:
        """Keep it."""
        write_whole(self._file, json.dumps({**asdict(done), "at": done.at.isoformat()}, indent=2) + "\n")
