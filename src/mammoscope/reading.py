"""`read_study`: the one way from the files of a study to readings and result objects, behind `detect`, node and Ray.

In come files and a detector; out come, for each file, a `ReadMammogram` (or a bare `Reading` where no object can refer
to the image), and the study's result objects. A file that cannot be read is answered with the reason, never with an
exception; trouble of the machine is told apart from it, since it is nothing that may be said of a patient.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydicom import Dataset

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm, Reading, ReadingStatus
from mammoscope.imaging import (
    DecoderLostError,
    MammogramError,
    MammogramRefusedError,
    MammogramUnavailableError,
    Preprocessing,
    PresentationIntent,
    ReducedMammogram,
    attributes,
)
from mammoscope.inference import BundleError, TwoViews
from mammoscope.inference.pool import ModelLostError, ModelUnavailableError
from mammoscope.logging import where_raised
from mammoscope.reasons import Reason, ReasonCode
from mammoscope.results import ReadMammogram, StudyResults, study_results

Outcome = ReadMammogram | Reading
"""What became of one image; a bare `Reading`, not processed, of one that no object can refer to."""

_DETECTOR_FAILED = Reason(ReasonCode.MODEL_FAILED, "The detector failed on this image.")

log = structlog.get_logger(__name__)


class MachineTroubleError(MammoscopeError):
    """An image cannot be read now for a reason that is the machine's: it is to be read later, and nothing said of it.

    Parameters
    ----------
    part
        What is in trouble, in a word: ``model``, ``decoder``, ``memory`` or ``disk``.
    """

    def __init__(self, part: str, sentence: str) -> None:
        super().__init__(sentence)
        self.part = part


class MammogramDetector(Protocol):
    """What reading needs of a detector; `mammoscope.inference.Detector` and `ModelPool` are such."""

    @property
    def algorithm(self) -> Algorithm:
        """Name and version of the model."""

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What is to be made of a mammogram's pixels; ``None`` for a detector that looks at the reduced picture."""

    def read(
        self, mammogram: ReducedMammogram, threshold: float | None = None, *, keep_candidates: bool = False
    ) -> Reading:
        """Read one mammogram; ``None`` is the detector's own operating point.

        ``keep_candidates`` is asked for where the two views of a breast are read together.
        """


class MammogramSource(Protocol):
    """What reading needs to read files; `mammoscope.imaging.MammogramReader` is one."""

    def read_reduced(
        self,
        path: Path | str,
        name: str | None = None,
        *,
        preprocessing: Preprocessing | None = None,
        intents: Collection[PresentationIntent] = tuple(PresentationIntent),
    ) -> ReducedMammogram:
        """Read one file."""

    def read_header(self, path: Path | str, name: str | None = None) -> Dataset:
        """Read the attributes of one file."""


class ImageReader:
    """Reads the images of studies, one at a time.

    Parameters
    ----------
    threshold
        Lowest score reported; ``None`` for the detector's own operating point.
    intents
        What the detector reads, see `mammoscope.imaging.eligibility.why_not_read`.
    pictures
        Folder in which pictures wait for the results, one file an image; ``None`` to keep them in memory.
    two_views
        Whether the two views of a breast are read together (`together`), where the detector has a ``two_views`` that
        says how; else each view is read by itself.
    """

    def __init__(
        self,
        detector: MammogramDetector,
        source: MammogramSource,
        threshold: float | None = None,
        intents: Collection[PresentationIntent] = tuple(PresentationIntent),
        pictures: Path | None = None,
        *,
        two_views: bool = True,
    ) -> None:
        self._detector = detector
        known: TwoViews | None = getattr(detector, "two_views", None)
        self._two_views = known if two_views else None
        self._source = source
        self._threshold = threshold
        self._intents = intents
        self._pictures = pictures

    @property
    def algorithm(self) -> Algorithm:
        """What reads."""
        return self._detector.algorithm

    def read(self, file: Path, name: str | None = None, *, threshold: float | None = None) -> Outcome:
        """Read one file.

        Parameters
        ----------
        name
            What messages call it; by default what the file is named after, its SOP Instance UID.
        threshold
            Lowest score reported of this one; ``None`` as of all.

        Returns
        -------
        A bare `Reading`, not processed, of an image so damaged that no object can refer to it.

        Raises
        ------
        MachineTroubleError
            If it cannot be read for a reason that is not its own.
        """
        name = name or file.stem
        try:
            mammogram = self._source.read_reduced(
                file, name, preprocessing=self._detector.preprocessing, intents=self._intents
            )
        except MammogramError as error:
            return self._not_decoded(file, name, error)
        try:
            reading = self._detect(mammogram, self._threshold if threshold is None else threshold)
            return ReadMammogram(self._kept(mammogram), reading)
        except (BundleError, ModelUnavailableError) as error:
            raise MachineTroubleError("model", str(error)) from error
        except MachineTroubleError:
            raise
        except MammoscopeError as error:
            return not_processed(mammogram.header, Reason(ReasonCode.MODEL_FAILED, str(error)), name)
        except (MemoryError, OSError) as error:
            raise MachineTroubleError("memory", f"this process is in trouble ({where_raised(error)})") from error
        except Exception as error:
            log.warning("detector failed", image=name, error=where_raised(error))
            return not_processed(mammogram.header, _DETECTOR_FAILED, name)

    def restore(self, file: Path, reading: Reading) -> Outcome:
        """An image with the reading that it was given before a crash.

        Raises
        ------
        MachineTroubleError
            As `read`.
        """
        if reading.status is ReadingStatus.NOT_PROCESSED:
            return self.answer(file, reading.why or Reason.of(""), reading.name)
        try:
            mammogram = self._source.read_reduced(file, reading.name)
        except MammogramError as error:
            return self._not_decoded(file, reading.name, error)
        return ReadMammogram(self._kept(mammogram), reading)

    def answer(self, file: Path, reason: Reason, name: str | None = None) -> Outcome:
        """An image that is not read, with the reason; of its file only the header is touched."""
        name = name or file.stem
        header: Dataset | None = None
        try:
            header = self._source.read_header(file, name)
        except MammogramError as error:
            log.warning("header not readable", image=name, reason=str(error))
        return not_processed(header, reason, name)

    def together(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The images of one study once all are read: the two views of a breast scored by each other.

        A view whose other is not there, or was not read, stays as it is.
        """
        if self._two_views is None:
            return list(outcomes)
        readings = [outcome.reading if isinstance(outcome, ReadMammogram) else outcome for outcome in outcomes]
        return [
            replace(outcome, reading=reading) if isinstance(outcome, ReadMammogram) else reading
            for outcome, reading in zip(outcomes, self._two_views.read_together(readings), strict=True)
        ]

    def _not_decoded(self, file: Path, name: str, error: MammogramError) -> Outcome:
        if isinstance(error, MammogramUnavailableError):
            raise MachineTroubleError("decoder", str(error)) from error
        if isinstance(error, DecoderLostError):
            if error.killed:  # what the file takes beyond its own limit is refused before: somebody else needs memory
                raise MachineTroubleError("memory", str(error)) from error
            return self.answer(file, error.reason, name)
        return not_processed(error.header if isinstance(error, MammogramRefusedError) else None, error.reason, name)

    def _detect(self, mammogram: ReducedMammogram, threshold: float | None) -> Reading:
        how = {"keep_candidates": True} if self._two_views is not None else {}
        try:
            return self._detector.read(mammogram, threshold, **how)
        except ModelLostError as error:  # killed for want of memory, say: alone it may have enough
            log.warning("model lost, tried once more", image=mammogram.name, reason=str(error))
        try:
            return self._detector.read(mammogram, threshold, **how)
        except ModelLostError as error:
            if error.killed:
                raise MachineTroubleError("memory", str(error)) from error
            raise

    def _kept(self, mammogram: ReducedMammogram) -> ReducedMammogram:
        if self._pictures is None:
            return replace(mammogram, network_input=None)
        try:
            self._pictures.mkdir(parents=True, exist_ok=True)
            handle, file = tempfile.mkstemp(".npy", dir=self._pictures)
            os.close(handle)
            return mammogram.kept_in(Path(file))
        except OSError as error:
            raise MachineTroubleError("disk", f"a picture cannot be kept ({error.strerror}): make room") from error


@dataclass(frozen=True, slots=True)
class StudyReading:
    """What became of a study.

    Parameters
    ----------
    outcomes
        One for each file, in the order of the files.
    results
        The result objects; ``None`` where no image can be referred to or none could be made.
    problems
        What is missing from the results: image or study, and one sentence.
    """

    outcomes: tuple[Outcome, ...]
    results: StudyResults | None
    problems: tuple[tuple[str, str], ...]


def read_study(
    files: Sequence[Path],
    reader: ImageReader,
    *,
    names: Sequence[str] | None = None,
    on_read: Callable[[Path, Outcome], None] = lambda _file, _outcome: None,
) -> StudyReading:
    """Read the files of one study, and make its result objects of the DICOM images among them.

    An image that cannot be read is among the results, with the reason, and so is one that the machine's trouble kept
    from being read: whoever can wait reads images one by one (`ImageReader.read`) and makes `results_of` them later.

    Parameters
    ----------
    names
        What messages call each file; by default the file's own name.
    on_read
        Told of each file when it is read, before its breast's two views are read together.
    """
    outcomes: list[Outcome] = []
    for file, name in zip(files, names or [file.name for file in files], strict=True):
        try:
            outcome = reader.read(file, name)
        except MachineTroubleError as error:
            outcome = Reading.not_processed(name, Reason(ReasonCode.MACHINE, str(error)))
        outcomes.append(outcome)
        on_read(file, outcome)
    outcomes = reader.together(outcomes)
    try:
        results, problems = results_of(outcomes, reader.algorithm)
    except Exception as error:  # whatever an odd header raises; its text may quote the patient
        why = str(error) if isinstance(error, MammoscopeError) else f"unexpected {where_raised(error)}"
        named = ", ".join(names or [file.name for file in files])
        results, problems = None, [(named, f"the result objects of their study could not be made: {why}")]
    return StudyReading(tuple(outcomes), results, tuple(problems))


def results_of(
    outcomes: Sequence[Outcome],
    algorithm: Algorithm,
    make_results: Callable[..., StudyResults] = study_results,
    **how: Any,
) -> tuple[StudyResults | None, list[tuple[str, str]]]:
    """The result objects of what was read of a study, and what is missing from them and why.

    Parameters
    ----------
    make_results
        `mammoscope.results.study_results`, or what stands in for it.
    how
        Passed on to it.
    """
    problems: list[tuple[str, str]] = []
    images = list(_referable(outcomes, problems))
    if not images:
        return None, problems
    study = f"study {images[0].header.StudyInstanceUID}"
    results = make_results(images, algorithm, **how)
    return results, problems + [(study, problem) for problem in results.problems]


def not_processed(header: Dataset | None, reason: Reason, name: str) -> Outcome:
    """An image that was not read, with the reason; a bare reading where its header does not do to refer to it."""
    if header is not None:
        try:
            return ReadMammogram.not_processed(header, reason, name=name)
        except Exception as error:  # whatever a damaged header raises: the image's own reason is the one to keep
            log.info("image not referred to", image=name, error=where_raised(error))
    return Reading.not_processed(name, reason)


def _referable(outcomes: Sequence[Outcome], problems: list[tuple[str, str]]) -> Iterator[ReadMammogram]:
    """The images that objects can refer to, each once; of several copies the first, but one that was read."""
    images = [o for o in outcomes if isinstance(o, ReadMammogram) and o.mammogram.header is not None]
    kept: dict[str, str] = {}
    for image in sorted(images, key=lambda image: not image.processed):
        name = image.mammogram.name
        try:
            uid, study = image.sop_instance_uid, str(image.header.StudyInstanceUID)
        except MammoscopeError as error:
            problems.append((name, f"no result objects: {error}"))
            continue
        if uid in kept:
            why = f"not in the result objects: it has the same SOP Instance UID as {kept[uid]}, which is."
            problems.append((name, why))
        elif not attributes.is_uid(study):
            problems.append((name, "no result objects, for it has no valid Study Instance UID"))
        else:
            kept[uid] = name
            yield image
