"""All that one study gets."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import FileDataset

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm
from mammoscope.results.cad_sr import cad_sr_obstacle, mammography_cad_sr
from mammoscope.results.errors import ResultError
from mammoscope.results.presentation import presentation_state, presentation_state_obstacle
from mammoscope.results.secondary_capture import secondary_capture
from mammoscope.results.study import ReadMammogram, in_hanging_order
from mammoscope.results.verify import verify_against_reading

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StudyResults:
    """What one study gets, and in one sentence each what it should have got but did not."""

    objects: tuple[FileDataset, ...]
    problems: tuple[str, ...] = ()


def result_objects(
    images: Sequence[ReadMammogram], algorithm: Algorithm, *, now: datetime | None = None
) -> list[FileDataset]:
    """The objects of `study_results`; its problems go to the log."""
    results = study_results(images, algorithm, now=now)
    for problem in results.problems:
        log.warning("%s", problem)
    return list(results.objects)


def study_results(
    images: Sequence[ReadMammogram], algorithm: Algorithm, *, now: datetime | None = None
) -> StudyResults:
    """The result objects of one study, each checked against its reading.

    First the mammography CAD report, then a presentation state for each image with findings, last the secondary
    capture. The report is made of the images that it may refer to (`cad_sr_obstacle`), and is not made if there is
    none; the secondary capture shows every image and names those that are not in the report. Made twice of the same
    images and readings, the objects have the same UIDs; another version of the algorithm gives others.

    One image or object that goes wrong does not cost the study the others: an image that cannot be referred to, or is
    of another patient than most of its study, is in no object, and an object that cannot be made is left out. Each is
    a problem, named on the secondary capture too.

    Parameters
    ----------
    images
        Every mammogram of the study, read or not, in any order.
    now
        Date and time of creation for all of them; the clock's unless given.

    Raises
    ------
    ResultError
        If no image can be referred to, the images are not of one study, there is no telling to which of several
        patients it belongs, or the secondary capture does not say what the reading says.
    """
    now = now or datetime.now()
    images, problems = _referable(images)
    images = in_hanging_order(images)
    made: list[FileDataset] = []

    def attempt(what: str, make: Callable[[Sequence[ReadMammogram]], FileDataset], of: Sequence[ReadMammogram]) -> bool:
        try:
            dataset = make(of)
            verify_against_reading(dataset, of)
        except Exception as error:  # whatever an odd header raises; its text may quote the patient
            why = str(error) if isinstance(error, MammoscopeError) else type(error).__name__
            problems.append(f"{what} could not be made: {why}")
            return False
        made.append(dataset)
        return True

    def report(of: Sequence[ReadMammogram]) -> FileDataset:
        return mammography_cad_sr(of, algorithm, now=now)

    reported = [image for image in images if cad_sr_obstacle(image) is None]
    if reported and not attempt("The CAD report", report, reported) and len(reported) > 1:
        alone = [i for i in reported if attempt(f"A CAD report with {i.mammogram.name}", report, [i])]
        made.clear()
        if alone and len(alone) < len(reported):
            attempt("The CAD report of the other images", report, alone)
    marked = [image for image in images if presentation_state_obstacle(image) is None]
    for number, image in enumerate(marked, start=1):

        def state(of: Sequence[ReadMammogram], number: int = number) -> FileDataset:
            return presentation_state(of[0], algorithm, number=number, now=now)

        attempt(f"The presentation state of {image.mammogram.name}", state, [image])
    sheet = secondary_capture(images, algorithm, now=now, remarks=problems)
    verify_against_reading(sheet, images)
    return StudyResults((*made, sheet), tuple(problems))


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
