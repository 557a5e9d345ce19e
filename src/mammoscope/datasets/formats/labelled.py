"""What every annotation format is read into, and the one interface of its readers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mammoscope.datasets.formats.image_folder import ImageFolder
from mammoscope.datasets.imported import ImportedBox
from mammoscope.datasets.review_state import ReviewState


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """One image as an annotation file speaks of it.

    Parameters
    ----------
    path
        Its file, found in the folder of images.
    where
        The place in the annotations that an error names: ``"boxes.csv, line 3"``.
    boxes
        In pixels of the file.
    rows, columns
        The image's size as the annotations say it; ``None`` where they are silent.
    facts
        What they say of the image by the names of the index: ``patient``, ``study``, ``laterality``, ``view``,
        ``density``, ``pathology``, ``scanner``, ``spacing_mm``, ``split``.
    attributes
        What else they say of it.
    review
        How far its annotation is; ``None`` for annotated.
    """

    path: Path
    where: str
    boxes: tuple[ImportedBox, ...] = ()
    rows: int | None = None
    columns: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    review: ReviewState | None = None


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a format leaves open.

    Parameters
    ----------
    classes
        Names of classes that the annotations only number, from 0.
    label_key
        Which attribute of a region is its label.
    label
        The label of boxes for which the annotations give none.
    counts_from
        Whether Pascal VOC's pixels count from 1, as it defines, or from 0, as some programs write it.
    """

    classes: tuple[str, ...] = ()
    label_key: str | None = None
    label: str | None = None
    counts_from: int = 1


class AnnotationReader(Protocol):
    """Reads one annotation format."""

    def __call__(self, source: Path, images: ImageFolder, options: ReadOptions) -> Iterable[LabelledFile]:
        """The images that the annotations at ``source`` speak of.

        Raises
        ------
        DatasetError
            If they cannot be read: which file and line, what is wrong.
        """
        ...
