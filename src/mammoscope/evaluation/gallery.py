"""The worst misses and false alarms, to look at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mammoscope.evaluation.cases import Case
from mammoscope.evaluation.matching import Matches, match


@dataclass(frozen=True, slots=True)
class Mistake:
    """A case with what is wrong on it, in words."""

    case: Case
    said: str


def worst_misses(cases: Sequence[Case], threshold: float, iou: float, most: int) -> list[Mistake]:
    """Cases with lesions that no finding at the operating point hits, one entry a case.

    First those whose lesion no candidate hits at any score, the largest lesion first; then by rising score of the
    candidate that hits it.
    """
    ordered, matches = _matched(cases, iou)
    best = np.full(len(matches.image_of_lesion), -1.0)
    best[matches.lesion[matches.hit]] = matches.score[matches.hit]
    boxes = [box for case in ordered for box in case.result.truth]
    missed = [int(lesion) for lesion in np.flatnonzero(best < threshold)]
    missed.sort(
        key=lambda lesion: (best[lesion], -_share(ordered[matches.image_of_lesion[lesion]], boxes[lesion].area))
    )
    found: dict[int, Mistake] = {}
    for lesion in missed:
        image = int(matches.image_of_lesion[lesion])
        said = (
            "no candidate hits it"
            if best[lesion] < 0
            else f"the candidate on it has a score of {best[lesion]:.3f} only"
        )
        side = 100 * np.sqrt(_share(ordered[image], boxes[lesion].area))
        found.setdefault(image, Mistake(ordered[image], f"Missed lesion ({side:.1f} % of the image's side): {said}."))
    return list(found.values())[:most]


def worst_false_alarms(cases: Sequence[Case], threshold: float, iou: float, most: int) -> list[Mistake]:
    """Cases with a finding at the operating point that hits nothing, by falling score, one entry a case."""
    ordered, matches = _matched(cases, iou)
    found: dict[int, Mistake] = {}
    for candidate in np.flatnonzero(~matches.hit & (matches.score >= threshold)):
        image, near = int(matches.image[candidate]), matches.nearest_iou[candidate]
        where = f"its highest IoU with a lesion is {near:.2f}" if near > 0 else "it touches no lesion"
        said = f"False alarm with a score of {matches.score[candidate]:.3f}: {where}."
        found.setdefault(image, Mistake(ordered[image], said))
    return list(found.values())[:most]


def _matched(cases: Sequence[Case], iou: float) -> tuple[list[Case], Matches]:
    ordered = sorted(cases, key=lambda case: case.result.image_id)
    return ordered, match([case.result for case in ordered], iou)


def _share(case: Case, area: float) -> float:
    return area / (case.rows * case.columns)
