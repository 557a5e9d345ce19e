"""`ImageReader`: reads an image of a study; one that cannot be read says why."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import structlog
from pydicom import dcmread

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm, Reading, ReadingStatus
from mammoscope.imaging import Mammogram, PresentationIntent
from mammoscope.imaging.eligibility import why_not_read
from mammoscope.inference.pool import ModelLostError
from mammoscope.logging import where_raised
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


class ImageReader:
    """Reads the images of studies, one at a time.

    Parameters
    ----------
    threshold
        Lowest score reported; ``None`` for the detector's own operating point.
    intents
        What the detector reads, see `mammoscope.imaging.eligibility.why_not_read`.
    """

    def __init__(
        self,
        detector: MammogramDetector,
        source: MammogramSource,
        threshold: float | None = None,
        intents: Collection[PresentationIntent] = tuple(PresentationIntent),
    ) -> None:
        self._detector = detector
        self._source = source
        self._threshold = threshold
        self._intents = intents

    @property
    def algorithm(self) -> Algorithm:
        """What reads."""
        return self._detector.algorithm

    def read(self, file: Path) -> ReadMammogram | Reading:
        """Read one file, named by its SOP Instance UID; one that cannot be read raises nothing.

        Returns
        -------
        A bare `Reading`, not processed, of an image so damaged that no object can refer to it.
        """
        mammogram = self._decode(file)
        if isinstance(mammogram, str):
            return not_processed(file, mammogram)
        hindrance = None if mammogram.header is None else why_not_read(mammogram.header, self._intents)
        if hindrance is not None:
            return _seen_not_read(mammogram, hindrance.sentence)
        try:
            return ReadMammogram(mammogram, self._detect(mammogram))
        except MammoscopeError as error:
            return not_processed(file, str(error))
        except Exception as error:
            log.warning("detector failed", image=file.stem, error=where_raised(error))
            return not_processed(file, "The detector failed on this image.")

    def restore(self, file: Path, reading: Reading) -> ReadMammogram | Reading:
        """An image with the reading that it was given before a crash."""
        if reading.status is ReadingStatus.NOT_PROCESSED:
            return not_processed(file, reading.reason or "")
        mammogram = self._decode(file)
        if isinstance(mammogram, str):
            return not_processed(file, mammogram)
        return ReadMammogram(mammogram, reading)

    def _decode(self, file: Path) -> Mammogram | str:
        """The pixels of a file, or why they cannot be had."""
        try:
            return self._source.read(file, name=file.stem)
        except MammoscopeError as error:
            return str(error)
        except Exception as error:
            log.warning("image not decoded", image=file.stem, error=where_raised(error))
            return "The image could not be decoded."

    def _detect(self, mammogram: Mammogram) -> Reading:
        try:
            return self._detector.read(mammogram, self._threshold)
        except ModelLostError as error:  # killed for want of memory, say: alone it may have enough
            log.warning("model lost, tried once more", image=mammogram.name, reason=str(error))
            return self._detector.read(mammogram, self._threshold)


def not_processed(file: Path, reason: str) -> ReadMammogram | Reading:
    """An image that was not read, with the reason; a bare reading where no object can refer to the image."""
    try:
        return ReadMammogram.not_processed(dcmread(file, stop_before_pixels=True), reason, name=file.stem)
    except Exception:  # whatever a damaged header raises: the image's own reason is the one to keep
        return Reading.not_processed(file.stem, reason)


def _seen_not_read(mammogram: Mammogram, reason: str) -> ReadMammogram:
    facts = {"laterality": mammogram.laterality, "view": mammogram.view}
    reading = Reading.not_processed(mammogram.name, reason, rows=mammogram.rows, columns=mammogram.columns, **facts)
    return ReadMammogram(mammogram, reading)
