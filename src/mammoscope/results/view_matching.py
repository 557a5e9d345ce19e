"""Findings of the CC and the MLO view of one breast that are surely the same lesion.

A lesion keeps its depth behind the nipple in both views, since both show the way from the nipple to the chest wall at
its full length; that is how readers match them, along the posterior nipple line. There is no nipple detector here: the
foremost edge of the breast stands for the nipple, and rows of pixels for the line. A pair that this cannot make sure of
is none (docs/decisions/016-pairs-of-views.md).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.findings import Algorithm
from mammoscope.imaging import View, breast_extent, find_breast_region
from mammoscope.inference.two_views import NOT_WHOLE
from mammoscope.results.study import ReadMammogram

PAIRING = Algorithm("Mammoscope pairing of CC and MLO by depth behind the nipple", "1")
"""What a report names as the maker of pairs; another rule is another version."""

SAME_DEPTH_MM = 15.0
"""How far apart the depths of the only findings of two views may lie: the two posterior nipple lines of a breast differ
by up to a centimetre themselves."""

CLEAR_DEPTH_MM, CLEAR_MARGIN_MM = 10.0, 20.0
"""Among several findings, how near the depths of a pair must be, and by how much nearer than any other choice."""


@dataclass(frozen=True, slots=True)
class ViewPair:
    """The two views of a breast, each with the depths of its findings in millimetres."""

    cc: ReadMammogram
    mlo: ReadMammogram
    cc_depths: tuple[float, ...]
    mlo_depths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FindingPair:
    """One lesion on two views.

    Parameters
    ----------
    cc_number, mlo_number
        Number of the finding in its image's reading, from 1.
    """

    views: ViewPair
    cc_number: int
    mlo_number: int


def view_pairs(images: Sequence[ReadMammogram]) -> list[ViewPair]:
    """The breasts whose findings can be compared between views.

    Those with exactly one CC and one MLO view, whole breasts, both with findings whose depths can be measured.
    """
    pairs = []
    for side in dict.fromkeys(image.laterality for image in images if image.laterality):
        cc, mlo = ([i for i in images if i.laterality is side and i.view is view] for view in (View.CC, View.MLO))
        if len(cc) == len(mlo) == 1 and all(_comparable(image) for image in (*cc, *mlo)):
            cc_depths, mlo_depths = depths_mm(cc[0]), depths_mm(mlo[0])
            if cc_depths is not None and mlo_depths is not None:
                pairs.append(ViewPair(cc[0], mlo[0], cc_depths, mlo_depths))
    return pairs


def sure_pairs(views: ViewPair) -> list[FindingPair]:
    """The findings of two views that are surely the same lesion, by falling score on the CC view.

    The only findings of both views are a pair if their depths differ by no more than `SAME_DEPTH_MM`. Where there are
    more, two are a pair if their depths differ by no more than `CLEAR_DEPTH_MM` and each one's next best partner is
    worse by at least `CLEAR_MARGIN_MM`. Findings of different classes are none.
    """
    labels = [[finding.label for finding in image.reading.findings] for image in (views.cc, views.mlo)]
    paired = surely_paired(views.cc_depths, views.mlo_depths, *labels)
    return [FindingPair(views, row + 1, column + 1) for row, column in paired]


def surely_paired(
    cc_depths: Sequence[float], mlo_depths: Sequence[float], cc_labels: Sequence[str], mlo_labels: Sequence[str]
) -> list[tuple[int, int]]:
    """Which findings of two views are surely the same lesion, as `sure_pairs`.

    Parameters
    ----------
    cc_depths, mlo_depths
        Behind the nipple in millimetres.
    cc_labels, mlo_labels
        Their classes.

    Returns
    -------
    For each pair, its place from 0 among those of the CC view and of the MLO view.
    """
    if not cc_depths or not mlo_depths:
        return []
    apart = np.abs(np.subtract.outer(cc_depths, mlo_depths))
    cc, mlo = (np.array([label.casefold() for label in labels]) for labels in (cc_labels, mlo_labels))
    apart[cc[:, None] != mlo[None, :]] = np.inf
    if apart.shape == (1, 1):
        return [(0, 0)] if apart[0, 0] <= SAME_DEPTH_MM else []
    return list(_clear(apart))


def depths_mm(image: ReadMammogram) -> tuple[float, ...] | None:
    """How far behind the foremost edge of the breast the middle of each finding lies, in millimetres.

    Measured along the rows of pixels. ``None`` where the image has no pixel spacing or no breast with a chest wall on
    one side can be made out.
    """
    spacing, mammogram = image.mammogram.spacing, image.mammogram
    if spacing is None:
        return None
    nipple = nipple_column(mammogram.pixels)
    if nipple is None:
        return None
    at = nipple * mammogram.columns
    return tuple(abs(finding.box.center[0] - at) * spacing.column_mm for finding in image.reading.findings)


def nipple_column(pixels: NDArray[np.uint16]) -> float | None:
    """Where the foremost edge of the breast is, which stands for the nipple, as a part of the image's width.

    Parameters
    ----------
    pixels
        As of `mammoscope.imaging.Mammogram`, in any size.

    Returns
    -------
    float or None
        From 0 (left edge of the image) to 1; ``None`` where no breast with a chest wall on one side can be made out.
    """
    extent = breast_extent(find_breast_region(pixels).mask, 1)
    return None if extent is None else extent.nipple


def is_whole_breast(view_modifiers: Iterable[str]) -> bool:
    """Whether a view with these modifiers shows the breast as a whole, so that depths in it can be compared."""
    return NOT_WHOLE.isdisjoint(view_modifiers)


def _comparable(image: ReadMammogram) -> bool:
    return bool(image.reading.findings) and is_whole_breast(image.mammogram.view_modifiers)


def _clear(apart: np.ndarray) -> Iterator[tuple[int, int]]:
    for row, distances in enumerate(apart):
        column = int(np.argmin(distances))
        rivals = np.concatenate((np.delete(distances, column), np.delete(apart[:, column], row)))
        if distances[column] <= CLEAR_DEPTH_MM and rivals.min() >= distances[column] + CLEAR_MARGIN_MM:
            yield row, column
