"""All that one study gets."""

from collections.abc import Sequence
from datetime import datetime

from pydicom.dataset import FileDataset

from mammoscope.findings import Algorithm
from mammoscope.results.cad_sr import cad_sr_obstacle, mammography_cad_sr
from mammoscope.results.presentation import presentation_state, presentation_state_obstacle
from mammoscope.results.secondary_capture import secondary_capture
from mammoscope.results.study import ReadMammogram, in_hanging_order
from mammoscope.results.verify import verify_against_reading


def result_objects(
    images: Sequence[ReadMammogram], algorithm: Algorithm, *, now: datetime | None = None
) -> list[FileDataset]:
    """The result objects of one study, each checked against its reading.

    First the mammography CAD report, then a presentation state for each image with findings, last the secondary
    capture. The report is made of the images that it may refer to (`cad_sr_obstacle`), and is not made if there is
    none; the secondary capture shows every image and names those that are not in the report. Made twice of the same
    images and readings, the objects have the same UIDs; another version of the algorithm gives others.

    Parameters
    ----------
    images
        Every mammogram of the study, read or not, in any order.
    now
        Date and time of creation for all of them; the clock's unless given.

    Raises
    ------
    ResultError
        If the images are not of one study, or an object does not say what the reading says.
    """
    images = in_hanging_order(images)
    now = now or datetime.now()
    made: list[tuple[FileDataset, Sequence[ReadMammogram]]] = []
    reported = [image for image in images if cad_sr_obstacle(image) is None]
    if reported:
        made.append((mammography_cad_sr(reported, algorithm, now=now), reported))
    marked = [image for image in images if presentation_state_obstacle(image) is None]
    for number, image in enumerate(marked, start=1):
        made.append((presentation_state(image, algorithm, number=number, now=now), [image]))
    made.append((secondary_capture(images, algorithm, now=now), images))
    for dataset, shown in made:
        verify_against_reading(dataset, shown)
    return [dataset for dataset, _ in made]
