"""What a collection holds, once its own tables, contours and masks are understood.

The same work on many files, spread over the processors.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

from mammoscope.datasets.image_marks import ImportedBox, LeftMark
from mammoscope.datasets.records import ImportedImage
from mammoscope.subprocesses import usable_cores

MASS = "Mass"
CALCIFICATION = "Calcification"
ASYMMETRY = "Asymmetry"
DISTORTION = "Architectural distortion"
LYMPH_NODE = "Lymph node"
NON_MASS = "Non-mass enhancement"
ABNORMALITY = "Abnormality"
"""Where a collection marks a place without saying what is there."""

Point = tuple[float, float]
Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much is done."""


@dataclass(frozen=True, slots=True)
class Collected:
    """A collection as it was read.

    Parameters
    ----------
    images
        In the order of the collection's tables.
    notes
        What was left out or changed and why, a sentence each, for the person who imports.
    """

    images: tuple[ImportedImage, ...]
    notes: tuple[str, ...] = ()


def density_of(text: str) -> int | None:
    """The ACR density from 1 to 4 in ``3``, ``3.0``, ``C``, ``DENSITY C`` or ``ACR C``; ``None`` for anything else."""
    match = re.fullmatch(r"(?:DENSITY|ACR)?\s*([A-D]|[1-4])(?:\.0+)?", text.strip().upper())
    if match is None:
        return None
    return int(match[1]) if match[1].isdigit() else ord(match[1]) - ord("A") + 1


def birads_of(text: str) -> str | None:
    """The assessment in ``4a``, ``4.0``, ``BI-RADS 4`` or ``BIRADS 4``, upper case; ``None`` for anything else."""
    match = re.fullmatch(r"(?:BI-?RADS)?\s*([0-6])(?:\.0+)?\s*([ABC]?)", text.strip().upper())
    return match[1] + match[2] if match else None


def pathology_of(text: str) -> str | None:
    """``benign``, ``malignant``, ``normal``, ``benign without callback``; ``None`` where nothing is said."""
    word = text.strip().lower().replace("_", " ")
    return {"b": "benign", "m": "malignant"}.get(word, word) or None


def worst_pathology(boxes: Iterable[ImportedBox]) -> str | None:
    """The pathology of an image by its boxes: malignant if one is."""
    said = [str(pathology) for box in boxes if (pathology := box.attributes.get("pathology"))]
    return "malignant" if "malignant" in said else min(said, default=None)


def not_outlined(said: Iterable[str], found: Iterable[str], where: str) -> tuple[LeftMark, ...]:
    """The lesions that tables name and no outline shows: what every collection compares.

    Parameters
    ----------
    said
        The kind of each lesion that is said to be there.
    found
        The kind of each mark.
    """
    lacking = Counter(said) - Counter(found)
    return tuple(LeftMark(f"a lesion of the kind {kind!r} without an outline", where) for kind in lacking.elements())


def outlined(points: Sequence[Point], label: str, attributes: Mapping[str, Any]) -> ImportedBox | None:
    """The box around a contour with that contour; ``None`` where it has no area, as a single point has none."""
    if len(points) < 3 or any(max(axis) <= min(axis) for axis in zip(*points, strict=True)):
        return None
    return ImportedBox.around(tuple(points), label, attributes=attributes)


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def spread(
    work: Callable[[_Item], _Result],
    items: Sequence[_Item],
    doing: str,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    serial_up_to: int,
) -> list[_Result]:
    """Results in the order of the items.

    Parameters
    ----------
    work
        A function of a module, which another process can import.
    doing
        What the progress calls it.
    workers
        Processes; by default as many as this process may use processors.
    serial_up_to
        With so many items or fewer, starting processes costs more than it saves.
    """
    workers = workers or usable_cores()
    found: list[_Result] = []

    def gathered(results: Iterator[_Result]) -> list[_Result]:
        for result in results:
            found.append(result)
            if progress and (len(found) % 64 == 0 or len(found) == len(items)):
                progress(doing, len(found), len(items))
        return found

    if workers == 1 or len(items) <= serial_up_to:
        return gathered(map(work, items))
    chunk = max(1, min(serial_up_to, len(items) // (4 * workers)))
    # spawn: a fork would copy the locks of the caller's threads, held for ever in the child
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return gathered(pool.map(work, items, chunksize=chunk))
