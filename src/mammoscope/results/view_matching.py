"""Findings of the CC and the MLO view of one breast that are surely the same lesion.

A lesion keeps its depth behind the nipple in both views, since both show the way from the nipple to the chest wall at
its full length; that is how readers match them, along the posterior nipple line. There is no nipple detector here: the
foremost edge of the breast stands for the nipple, and rows of pixels for the line. A pair that this cannot make sure of
is none (docs/decisions/016-pairs-of-views.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

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
    apart = np.abs(np.subtract.outer(views.cc_depths, views.mlo_depths))
    labels = [[f.label.casefold() for f in image.reading.findings] for image in (views.cc, views.mlo)]
    apart[np.array(labels[0])[:, None] != np.array(labels[1])[None, :]] = np.inf
    if apart.shape == (1, 1):
        return [FindingPair(views, 1, 1)] if apart[0, 0] <= SAME_DEPTH_MM else []
    return [FindingPair(views, row + 1, column + 1) for row, column in _clear(apart)]


def depths_mm(image: ReadMammogram) -> tuple[float, ...] | None:
    """How far behind the foremost edge of the breast the middle of each finding lies, in millimetres.

    Measured along the rows of pixels. ``None`` where the image has no pixel spacing or no breast with a chest wall on
    one side can be made out.
    """
    spacing, mammogram = image.mammogram.spacing, image.mammogram
    if spacing is None:
        return None
    extent = breast_extent(find_breast_region(mammogram.pixels).mask, mammogram.columns)
    if extent is None:
        return None
    return tuple(abs(finding.box.center[0] - extent.nipple) * spacing.column_mm for finding in image.reading.findings)


def _comparable(image: ReadMammogram) -> bool:
    return bool(image.reading.findings) and NOT_WHOLE.isdisjoint(image.mammogram.view_modifiers)


def _clear(apart: np.ndarray) -> Iterator[tuple[int, int]]:
    for row, distances in enumerate(apart):
        column = int(np.argmin(distances))
        rivals = np.concatenate((np.delete(distances, column), np.delete(apart[:, column], row)))
        if distances[column] <= CLEAR_DEPTH_MM and rivals.min() >= distances[column] + CLEAR_MARGIN_MM:
            yield row, column
