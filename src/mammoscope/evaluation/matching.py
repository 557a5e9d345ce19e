"""Which candidate finds which lesion: greedy by falling score, as COCO's own evaluation matches.

Follows ``COCOeval.evaluateImg`` of pycocotools for one class and all sizes; the tests hold the two together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.errors import EvaluationError
from mammoscope.findings import Box, Finding

MAX_CANDIDATES = 100
"""Of each image only that many candidates count, those with the highest scores (COCO's ``maxDets``)."""


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image: what an expert marked and what the detector proposed.

    Parameters
    ----------
    image_id
        Unique in one evaluation.
    patient
        Whose image it is: the unit that the bootstrap draws.
    truth
        The marked lesions.
    candidates
        Every candidate with its score, not only those above the operating point.
    crowds
        Regions marked ``iscrowd``: a candidate that finds no lesion but lies in one counts neither way.
    unreadable
        Why the image could not be read, or ``None``. It counts all the same, as an image without candidates.
    """

    image_id: int
    patient: str
    truth: tuple[Box, ...]
    candidates: tuple[Finding, ...]
    crowds: tuple[Box, ...] = ()
    unreadable: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Every candidate that counts, by falling score, and whether it found a lesion, at one IoU threshold.

    Parameters
    ----------
    score, hit, image
        Shape (candidates,): score, whether it is a true positive, index of its image. Ties of score keep the order of
        image ids, then that of the image's candidates, as COCO's do.
    n_truth, patient
        Shape (images,): lesions on each image, index of its patient.
    iou
        Least intersection over union of a candidate with the lesion that it finds.
    n_patients
        How many patients there are.
    """

    score: NDArray[np.float64]
    hit: NDArray[np.bool_]
    image: NDArray[np.intp]
    n_truth: NDArray[np.intp]
    patient: NDArray[np.intp]
    iou: float
    n_patients: int

    @property
    def n_images(self) -> int:
        """How many images there are, unreadable ones too."""
        return len(self.n_truth)


def match(results: Sequence[ImageResult], iou: float, max_candidates: int = MAX_CANDIDATES) -> Matches:
    """Match candidates to lesions on each image.

    By falling score each candidate takes the lesion not yet taken with which its IoU is highest, if that is ``iou`` or
    more (of equal ones the last); otherwise, if its intersection with a crowd region is ``iou`` or more of its own
    area, it counts neither way; otherwise it is a false positive. So is a second candidate on one lesion.

    Raises
    ------
    EvaluationError
        If there are no results, or two of one image.
    """
    if not results:
        raise EvaluationError("there is nothing to evaluate: no image.")
    ordered = sorted(results, key=lambda result: result.image_id)
    for before, after in pairwise(ordered):
        if before.image_id == after.image_id:
            raise EvaluationError(f"image {after.image_id} has two results.")
    patients = {patient: index for index, patient in enumerate(sorted({result.patient for result in ordered}))}
    scores, hits, images = [np.empty(0)], [np.empty(0, bool)], [np.empty(0, np.intp)]
    for index, result in enumerate(ordered):
        score, hit = _match_image(result, iou, max_candidates)
        scores.append(score)
        hits.append(hit)
        images.append(np.full(len(score), index, np.intp))
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    return Matches(
        score=score[order],
        hit=np.concatenate(hits)[order],
        image=np.concatenate(images)[order],
        n_truth=np.array([len(result.truth) for result in ordered], np.intp),
        patient=np.array([patients[result.patient] for result in ordered], np.intp),
        iou=iou,
        n_patients=len(patients),
    )


def _match_image(result: ImageResult, iou: float, max_candidates: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    candidates = sorted(result.candidates, key=lambda finding: -finding.score)[:max_candidates]
    boxes = _as_array([finding.box for finding in candidates])
    overlap = _intersection(boxes, _as_array(result.truth))
    area, area_of_truth = _area(boxes), _area(_as_array(result.truth))
    ious = overlap / (area[:, None] + area_of_truth[None, :] - overlap)
    in_crowd = _intersection(boxes, _as_array(result.crowds)) / area[:, None]

    hit = np.zeros(len(candidates), bool)
    for index in np.flatnonzero((ious >= iou).any(axis=1)):
        last_best = ious.shape[1] - 1 - int(ious[index, ::-1].argmax())
        if ious[index, last_best] >= iou:
            hit[index] = True
            ious[:, last_best] = -1.0  # taken
    counts = hit | ~(in_crowd >= iou).any(axis=1)
    score = np.array([finding.score for finding in candidates], np.float64)
    return score[counts], hit[counts]


def _as_array(boxes: Sequence[Box]) -> NDArray[np.float64]:
    return np.array([box.as_tuple() for box in boxes], np.float64).reshape(-1, 4)


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    area: NDArray[np.float64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def _intersection(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area that each of ``a``, shape (n, 4), shares with each of ``b``, shape (m, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.prod(np.clip(high - low, 0, None), axis=2), np.float64)
