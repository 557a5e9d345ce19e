"""All that one study gets."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydicom.dataset import FileDataset

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm
from mammoscope.results.base import (
    REPLACES,
    ResultReference,
    ResultSeries,
    replaced,
    result_instance_uid,
    set_series_date,
)
from mammoscope.results.mammography_cad_sr import cad_sr_obstacle, mammography_cad_sr
from mammoscope.results.measurement_report import ai_sr, ai_sr_obstacle
from mammoscope.results.presentation_state import presentation_state, presentation_state_obstacle
from mammoscope.results.rejection_note import rejected_by, rejection_note
from mammoscope.results.secondary_capture import image_capture, secondary_capture
from mammoscope.results.segmentation import segmentation
from mammoscope.results.study import ReadMammogram, ResultError, in_hanging_order
from mammoscope.results.verification import verify_against_reading
from mammoscope.settings import ResultKind
from mammoscope.settings.schema import DEFAULT_RESULTS

log = logging.getLogger(__name__)

_Make = Callable[[Sequence[ReadMammogram]], FileDataset]

_SHEETS = {ResultKind.SHEET: False, ResultKind.COLOUR_SHEET: True}
_IMAGE_CAPTURES = {ResultKind.IMAGE_CAPTURE: False, ResultKind.COLOUR_IMAGE_CAPTURE: True}
"""Whether in colour."""


@dataclass(frozen=True, slots=True)
class Result:
    """One object, of which kind it is, and what to keep of it to name it later."""

    kind: ResultKind
    dataset: FileDataset
    reference: ResultReference


@dataclass(frozen=True, slots=True)
class StudyResults:
    """What one study gets, and in one sentence each what it should have got but did not."""

    results: tuple[Result, ...]
    problems: tuple[str, ...] = ()

    @property
    def objects(self) -> tuple[FileDataset, ...]:
        """The objects alone, in the order of `results`."""
        return tuple(result.dataset for result in self.results)

    def of(self, kinds: Sequence[ResultKind]) -> tuple[Result, ...]:
        """What a destination gets that asked for these kinds, in the order in which it named them."""
        return tuple(result for kind in kinds for result in self.results if result.kind is kind)

    @property
    def references(self) -> tuple[ResultReference, ...]:
        """What the next report of this study is to be told of this one."""
        return tuple(result.reference for result in self.results)


def result_objects(
    images: Sequence[ReadMammogram],
    algorithm: Algorithm,
    *,
    kinds: Sequence[ResultKind] = DEFAULT_RESULTS,
    now: datetime | None = None,
) -> list[FileDataset]:
    """The objects of `study_results`; its problems go to the log."""
    results = study_results(images, algorithm, kinds=kinds, now=now)
    for problem in results.problems:
        log.warning("%s", problem)
    return list(results.objects)


def study_results(
    images: Sequence[ReadMammogram],
    algorithm: Algorithm,
    *,
    kinds: Sequence[ResultKind] = DEFAULT_RESULTS,
    supersedes: Sequence[ResultReference] = (),
    absent_views: Sequence[str] = (),
    now: datetime | None = None,
) -> StudyResults:
    """The result objects of one study, each written, read back and checked against its reading.

    A report is made of the images that it may refer to (`cad_sr_obstacle`, `ai_sr_obstacle`), and is not made if there
    is none; presentation states and segmentations are made for each image with findings, sheets and captures of every
    image. A sheet names the images that are not in the CAD report. Made twice of the same images and readings, the
    objects have the same UIDs and differ in dates and times alone; another version of the algorithm gives others.

    One image or object that goes wrong does not cost the study the others: an image that cannot be referred to, or is
    of another patient than most of its study, is in no object, and an object that cannot be made is left out. Each is
    a problem, named on the sheets too.

    Parameters
    ----------
    images
        Every mammogram of the study, read or not, in any order.
    kinds
        What to make: all that any destination asks for. The results come in this order.
    supersedes
        `StudyResults.references` of every earlier report of this study, one after the other, oldest first. Structured
        reports name the one they replace, other objects say in words that they replace something; an object that was
        there before comes again as it was.
    absent_views
        Views that were expected and are not among the images, such as ``LMLO``: named in reports and on sheets, and no
        report says that all succeeded.
    now
        Date and time of creation for all of them; the clock's unless given.

    Raises
    ------
    ResultError
        If no image can be referred to, the images are not of one study, there is no telling to which of several
        patients it belongs, or no object at all could be made.
    OSError, MemoryError
        If the machine is in trouble: a picture that cannot be read now is no fault of the images.
    """
    images, problems = _referable(images)
    absent = tuple(absent_view_sentence(view) for view in absent_views)
    problems += absent
    making = _Making(in_hanging_order(images), algorithm, tuple(supersedes), now or datetime.now(), problems, absent)
    kinds = list(dict.fromkeys(kinds))
    # The sheets tell of all problems, and a rejection note of all that is no longer among the results.
    for kind in sorted(kinds, key=lambda kind: (kind is ResultKind.REJECTION_NOTE, kind in _SHEETS)):
        making.make(kind)
    if not making.made:
        raise ResultError(problems[0] if problems else _no_object(making.images, kinds))
    results = sorted(making.made, key=lambda result: kinds.index(result.kind))
    return StudyResults(tuple(results), tuple(problems))


@dataclass
class _Making:
    """The results of a study so far, and the problems met."""

    images: Sequence[ReadMammogram]
    algorithm: Algorithm
    supersedes: tuple[ResultReference, ...]
    now: datetime
    problems: list[str]
    absent: tuple[str, ...] = ()
    made: list[Result] = field(default_factory=list)

    def make(self, kind: ResultKind) -> None:
        """Make all objects of a kind."""
        if kind is ResultKind.CAD_SR:
            reported = [image for image in self.images if cad_sr_obstacle(image) is None]
            self._report(kind, "CAD report", reported, self._cad_sr)
        elif kind is ResultKind.AI_SR:
            reported = [image for image in self.images if ai_sr_obstacle(image) is None]
            self._report(kind, "AI report", reported, self._ai_sr)
        elif kind is ResultKind.PRESENTATION_STATE:
            marked = [image for image in self.images if presentation_state_obstacle(image) is None]
            self._for_each(kind, "presentation state", marked, self._presentation_state)
        elif kind is ResultKind.SEGMENTATION:
            marked = [i for i in self.images if i.reading.findings and presentation_state_obstacle(i) is None]
            self._for_each(kind, "segmentation", marked, self._segmentation)
        elif kind is ResultKind.REJECTION_NOTE:
            self._reject(kind)
        elif kind in _IMAGE_CAPTURES:
            self._for_each(kind, "picture", self.images, lambda of: self._image_capture(kind, of[0]))
        else:
            self._attempt(kind, "The sheet", self.images, lambda _: self._sheet(kind))

    def _report(self, kind: ResultKind, what: str, images: Sequence[ReadMammogram], make: _Make) -> None:
        """One report of all images, or else of those that do not spoil it."""
        if not images or self._attempt(kind, f"The {what}", images, make) or len(images) == 1:
            return
        before = list(self.made)
        alone = [i for i in images if self._attempt(kind, f"The {what} with {i.mammogram.name} alone", [i], make)]
        self.made[:] = before
        if alone and len(alone) < len(images):
            self._attempt(kind, f"The {what} of the other images", alone, make)

    def _for_each(self, kind: ResultKind, what: str, images: Sequence[ReadMammogram], make: _Make) -> None:
        for image in images:
            self._attempt(kind, f"The {what} of {image.mammogram.name}", [image], make)

    def _attempt(self, kind: ResultKind, what: str, of: Sequence[ReadMammogram], make: _Make) -> bool:
        try:
            dataset = make(of)
            set_series_date(dataset, self.supersedes)
            verify_against_reading(dataset, of)
        except MemoryError:
            raise
        except Exception as error:  # whatever an odd header raises; its text may quote the patient
            if isinstance(error, OSError) and error.errno is not None:  # of the system, not of a decoder
                raise
            why = str(error) if isinstance(error, MammoscopeError) else type(error).__name__
            self.problems.append(f"{what} could not be made: {why}")
            return False
        reference = ResultReference.of(kind, dataset, [image.sop_instance_uid for image in of])
        self.made.append(Result(kind, dataset, reference))
        return True

    def _cad_sr(self, of: Sequence[ReadMammogram]) -> FileDataset:
        return mammography_cad_sr(
            of, self.algorithm, now=self.now, supersedes=self.supersedes, missing=self._missing(cad_sr_obstacle)
        )

    def _ai_sr(self, of: Sequence[ReadMammogram]) -> FileDataset:
        return ai_sr(
            of, self.algorithm, now=self.now, supersedes=self.supersedes, missing=self._missing(ai_sr_obstacle)
        )

    def _reject(self, kind: ResultKind) -> None:
        """Only once there is something new: a study without results keeps its old ones."""
        rejected = rejected_by([result.reference for result in self.made], self.supersedes)
        if self.made and rejected:
            of = self.images[:1]
            self._attempt(kind, "The rejection note", of, lambda of: self._rejection_note(of[0], rejected))

    def _rejection_note(self, image: ReadMammogram, rejected: Sequence[ResultReference]) -> FileDataset:
        return rejection_note(image, self.algorithm, rejected, now=self.now)

    def _missing(self, obstacle: Callable[[ReadMammogram], str | None]) -> list[str]:
        """What was not read and that a report cannot refer to."""
        unread = [image for image in self.images if not image.processed and obstacle(image) is not None]
        return [*self.absent, *(f"{image.sop_instance_uid}: {image.reading.reason}" for image in unread)]

    def _presentation_state(self, of: Sequence[ReadMammogram]) -> FileDataset:
        return presentation_state(of[0], self.algorithm, now=self.now, supersedes=self.supersedes)

    def _segmentation(self, of: Sequence[ReadMammogram]) -> FileDataset:
        return segmentation(of[0], self.algorithm, now=self.now, supersedes=self.supersedes)

    def _image_capture(self, kind: ResultKind, image: ReadMammogram) -> FileDataset:
        remarks = self._remarks(kind, [image], [])
        return image_capture(image, self.algorithm, colour=_IMAGE_CAPTURES[kind], now=self.now, remarks=remarks)

    def _sheet(self, kind: ResultKind) -> FileDataset:
        remarks = self._remarks(kind, self.images, self.problems)
        return secondary_capture(self.images, self.algorithm, colour=_SHEETS[kind], now=self.now, remarks=remarks)

    def _remarks(self, kind: ResultKind, of: Sequence[ReadMammogram], problems: Sequence[str]) -> list[str]:
        unchanged = result_instance_uid(ResultSeries.of(kind), of, self.algorithm, problems)
        uids = [image.sop_instance_uid for image in of]
        return [REPLACES, *problems] if replaced(kind, unchanged, uids, self.supersedes) else list(problems)


def absent_view_sentence(view: str) -> str:
    """What is said of an expected view, such as ``LMLO``, of which no image came."""
    return f"No image of the expected view {view[:1]} {view[1:]} was received."


def _no_object(images: Sequence[ReadMammogram], kinds: Sequence[ResultKind]) -> str:
    obstacles = {ResultKind.CAD_SR: cad_sr_obstacle, ResultKind.AI_SR: ai_sr_obstacle}
    reasons = [why for kind in kinds if kind in obstacles for i in images if (why := obstacles[kind](i))]
    asked = ", ".join(kinds)
    return f"Of the results asked for ({asked}) none can be made: {reasons[0] if reasons else 'there are no findings'}."


def _referable(images: Sequence[ReadMammogram]) -> tuple[list[ReadMammogram], list[str]]:
    """The images that objects can refer to, of the patient whom most of them name, and why each other one is not."""
    kept: list[ReadMammogram] = []
    problems: list[str] = []
    for image in images:
        try:
            _ = image.header
        except ResultError as error:
            problems.append(str(error))
        else:
            kept.append(image)
    if images and not kept:
        raise ResultError(problems[0])
    patients = Counter(str(image.header.get("PatientID", "")) for image in kept).most_common(2)
    if len(patients) < 2 or patients[0][1] == patients[1][1]:
        return kept, problems
    others = [image for image in kept if str(image.header.get("PatientID", "")) != patients[0][0]]
    problems += [
        f"{i.mammogram.name} has another PatientID than most of its study: it is in no result." for i in others
    ]
    return [image for image in kept if image not in others], problems
