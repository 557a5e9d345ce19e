"""`StudyReader`: reads each image of a study; one that cannot be read says why and does not stop the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from pydicom import dcmread

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm, Reading
from mammoscope.imaging import Mammogram
from mammoscope.node.log import where_raised
from mammoscope.results import ReadMammogram

log = structlog.get_logger(__name__)


class MammogramDetector(Protocol):
    """What the node needs of a detector; `mammoscope.inference.Detector` is one."""

    @property
    def algorithm(self) -> Algorithm:
        """Name and version of the model."""

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        """Read one mammogram; ``None`` is the detector's own operating point."""


class MammogramSource(Protocol):
    """What the node needs to read files; `mammoscope.imaging.MammogramReader` is one."""

    def read(self, path: Path, name: str | None = None) -> Mammogram:
        """Read one file."""


@dataclass(frozen=True, slots=True)
class StudyReading:
    """The readings of one study.

    Parameters
    ----------
    images
        What result objects are made of: every image that they can refer to, processed or not.
    unreferable
        Readings, all not processed, of images so damaged that no object can refer to them.
    """

    images: tuple[ReadMammogram, ...]
    unreferable: tuple[Reading, ...] = ()

    @property
    def readings(self) -> tuple[Reading, ...]:
        """One for each image of the study."""
        return (*(image.reading for image in self.images), *self.unreferable)


class ReadingInterruptedError(Exception):
    """The node is stopping; the study is read again, whole, at the next start."""


class StudyReader:
    """Reads studies.

    Parameters
    ----------
    threshold
        Lowest score reported; ``None`` for the detector's own operating point.
    """

    def __init__(self, detector: MammogramDetector, source: MammogramSource, threshold: float | None = None) -> None:
        self._detector = detector
        self._source = source
        self._threshold = threshold

    def read(self, files: Sequence[Path], interrupted: Callable[[], bool] = lambda: False) -> StudyReading:
        """Read every file, named by its SOP Instance UID; one that cannot be read raises nothing.

        Raises
        ------
        ReadingInterruptedError
            If ``interrupted``, asked after each image, says so: decoders that are being ended would make good images
            look bad.
        """
        images: list[ReadMammogram] = []
        unreferable: list[Reading] = []
        for file in files:
            outcome = self._read_image(file)
            if interrupted():
                raise ReadingInterruptedError
            if isinstance(outcome, ReadMammogram):
                images.append(outcome)
            else:
                unreferable.append(outcome)
        return StudyReading(tuple(images), tuple(unreferable))

    def _read_image(self, file: Path) -> ReadMammogram | Reading:
        uid = file.stem
        try:
            mammogram = self._source.read(file, name=uid)
        except MammoscopeError as error:
            return _not_processed(file, str(error))
        except Exception as error:
            log.warning("image not decoded", image=uid, error=where_raised(error))
            return _not_processed(file, "The image could not be decoded.")
        try:
            return ReadMammogram(mammogram, self._detector.read(mammogram, self._threshold))
        except MammoscopeError as error:
            return _not_processed(file, str(error))
        except Exception as error:
            log.warning("detector failed", image=uid, error=where_raised(error))
            return _not_processed(file, "The detector failed on this image.")


def _not_processed(file: Path, reason: str) -> ReadMammogram | Reading:
    try:
        return ReadMammogram.not_processed(dcmread(file, stop_before_pixels=True), reason, name=file.stem)
    except Exception:  # whatever a damaged header raises: the image's own reason is the one to keep
        return Reading.not_processed(file.stem, reason)
