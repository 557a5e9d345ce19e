"""A seeded synthetic screening study: four views as valid DICOM objects, with the truth.

Why a phantom cannot be made.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View
from mammoscope.phantom.anatomy import Anatomy
from mammoscope.phantom.dicom import StudyFacts, mammography_object
from mammoscope.phantom.rendering import Field, breast_picture, truth_boxes


class PhantomError(MammoscopeError):
    """A synthetic study that was asked for with values it cannot have, or that cannot be saved."""


ROWS, COLUMNS = 2048, 1536
"""Size in pixels when none is asked for: 240 mm by 180 mm at 0.1172 mm."""

MOST_MASSES = 6
"""The most masses in one study: three in each breast."""

FEWEST_ROWS, FEWEST_COLUMNS, LARGEST = 128, 96, 8192
"""Limits of the size in pixels: below, a mass is a few pixels; above, a picture fills the memory."""

TAKEN = datetime(2000, 1, 1, 9, 0, 0)
"""Date and time in the objects when none is given: never the machine's, so that a seed always gives the same bytes."""

HANGING = (
    (Laterality.RIGHT, View.CC),
    (Laterality.LEFT, View.CC),
    (Laterality.RIGHT, View.MLO),
    (Laterality.LEFT, View.MLO),
)


@dataclass(frozen=True, slots=True, eq=False)
class PhantomImage:
    """One view of a synthetic study.

    Parameters
    ----------
    dataset
        The complete MG object, For Presentation.
    truth
        Tight box of each mass's body (lobulation included, spicules left out) in pixels of the object; the n-th box
        of the CC view and the n-th of the MLO view of the same breast are the same mass.
    """

    dataset: FileDataset
    truth: tuple[Box, ...]
    laterality: Laterality
    view: View

    @property
    def file_name(self) -> str:
        """What `PhantomStudy.save` calls it, for example ``R_CC.dcm``."""
        return f"{self.laterality}_{self.view}.dcm"


@dataclass(frozen=True, slots=True, eq=False)
class PhantomStudy:
    """Four views of one synthetic woman: R CC, L CC, R MLO, L MLO."""

    seed: int
    anatomy: Anatomy
    images: tuple[PhantomImage, ...]

    def save(self, folder: str | Path) -> list[Path]:
        """Write the four objects as DICOM files into `folder`, made if missing; return their paths in order.

        Raises
        ------
        PhantomError
            If the folder cannot be written to.
        """
        folder, paths = Path(folder), []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for image in self.images:
                path = folder / image.file_name
                image.dataset.save_as(path, enforce_file_format=True)
                paths.append(path)
        except OSError as error:
            raise PhantomError(
                f"cannot write the synthetic study to {folder} ({error.strerror}): name a folder that can be written to"
            ) from error
        return paths

    def truth_as_coco(self) -> dict[str, Any]:
        """The truth of all four files as a COCO detection dataset; a view without masses has no annotation."""
        images, annotations = [], []
        for number, image in enumerate(self.images, start=1):
            size = {"height": int(image.dataset.Rows), "width": int(image.dataset.Columns)}
            images.append({"id": number, "file_name": image.file_name, **size})
            annotations += [
                {"image_id": number, "category_id": 1, "bbox": list(box.as_xywh()), "area": box.area, "iscrowd": 0}
                for box in image.truth
            ]
        numbered = [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)]
        return {"images": images, "annotations": numbered, "categories": [{"id": 1, "name": "Mass"}]}


def screening_study(
    seed: int, *, masses: int = 2, rows: int = ROWS, columns: int = COLUMNS, taken: datetime = TAKEN
) -> PhantomStudy:
    """Make a synthetic four-view screening study.

    The same arguments give the same bytes (with the same versions of numpy and OpenCV); at another size the anatomy
    and the masses stay and the texture differs.

    Parameters
    ----------
    seed
        Any integer from 0 to 2**63 - 1.
    masses
        How many masses the woman has, 0 to 6, shared out between the breasts; each is seen in both views. 0 makes a
        normal study.
    rows, columns
        Size of each image in pixels, 128 to 8192 and 96 to 8192. The pixel spacing follows so that the breasts keep
        their size in mm.
    taken
        Date and time that the objects carry.

    Raises
    ------
    PhantomError
        If a value is outside its range.
    """
    _check("the seed", seed, 0, 2**63 - 1)
    _check("the number of masses", masses, 0, MOST_MASSES)
    _check("the number of rows", rows, FEWEST_ROWS, LARGEST)
    _check("the number of columns", columns, FEWEST_COLUMNS, LARGEST)
    field = Field.of_size(rows, columns)
    anatomy = Anatomy.draw(np.random.default_rng(seed), masses)
    facts = StudyFacts(seed, f"seed {seed}, masses {masses}, {rows} x {columns}", taken)
    images = []
    for number, (laterality, view) in enumerate(HANGING, start=1):
        breast = anatomy.right if laterality is Laterality.RIGHT else anatomy.left
        rng = np.random.default_rng([seed, number])
        pixels = breast_picture(rng, breast, laterality, view, field)
        dataset = mammography_object(pixels, field, facts, laterality, view, number=number)
        images.append(PhantomImage(dataset, truth_boxes(breast, laterality, view, field), laterality, view))
    return PhantomStudy(seed, anatomy, tuple(images))


def _check(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise PhantomError(f"{what} of a synthetic study must be {low} to {high}, not {value}")
