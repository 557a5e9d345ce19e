"""Which candidate finds which lesion: greedy by falling score, as COCO's own evaluation matches.

Follows ``COCOeval.evaluateImg`` of pycocotools for one class and all sizes; the tests hold the two together.

Why a figure cannot be given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Box, Finding


class EvaluationError(MammoscopeError):
    """Results that cannot be evaluated as asked."""


MAX_CANDIDATES = 100
"""Of each image only that many candidates count, those with the highest scores (COCO's ``maxDets``)."""
CENTRE = None
"""In place of an IoU: a candidate fits a lesion whose box holds the candidate's centre."""


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
    laterality
        Which breast (``"L"`` or ``"R"``), or ``None`` where that is not known.
    """

    image_id: int
    patient: str
    truth: tuple[Box, ...]
    candidates: tuple[Finding, ...]
    crowds: tuple[Box, ...] = ()
    unreadable: str | None = None
    laterality: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Every candidate that counts, by falling score, and the lesion it found, by one rule of what a hit is.

    Parameters
    ----------
    score, image, lesion
        Shape (candidates,): score, index of its image, index of the lesion that it found or -1. Ties of score keep the
        order of image ids, then that of the image's candidates, as COCO's do.
    nearest, nearest_iou
        Shape (candidates,): the lesion with which its IoU is highest, taken or not, or -1 on an image without lesions;
        that IoU, 0 there.
    image_of_lesion
        Shape (lesions,): index of its image; in the order of image ids, then that of the image's truth.
    patient
        Shape (images,): index of its patient.
    iou
        Least intersection over union of a candidate with the lesion that it finds; ``CENTRE`` where its centre decides.
    n_patients
        How many patients there are.
    """

    score: NDArray[np.float64]
    image: NDArray[np.intp]
    lesion: NDArray[np.intp]
    nearest: NDArray[np.intp]
    nearest_iou: NDArray[np.float64]
    image_of_lesion: NDArray[np.intp]
    patient: NDArray[np.intp]
    iou: float | None
    n_patients: int

    @property
    def hit(self) -> NDArray[np.bool_]:
        """Shape (candidates,): whether it is a true positive."""
        return self.lesion >= 0

    @property
    def n_truth(self) -> NDArray[np.intp]:
        """Shape (images,): lesions on each image."""
        return np.bincount(self.image_of_lesion, minlength=self.n_images)

    @property
    def n_images(self) -> int:
        """How many images there are, unreadable ones too."""
        return len(self.patient)

    @property
    def rule(self) -> str:
        """What a hit is, in words."""
        return "centre in the box" if self.iou is CENTRE else f"IoU {self.iou:g}"

    def kept(
        self,
        candidates: NDArray[np.bool_] | None = None,
        lesions: NDArray[np.bool_] | None = None,
        images: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Only those candidates, lesions and images (all for ``None``); the patients stay numbered as they are.

        A candidate whose lesion goes hits nothing any more; nothing is matched anew.
        """
        candidates = np.ones(len(self.score), bool) if candidates is None else candidates
        lesions = np.ones(len(self.image_of_lesion), bool) if lesions is None else lesions
        images = np.ones(self.n_images, bool) if images is None else images
        candidates = candidates & images[self.image]
        lesions = lesions & images[self.image_of_lesion]
        lesion_now = np.append(np.where(lesions, np.cumsum(lesions) - 1, -1), -1)  # the last for -1, no lesion
        image_now = np.cumsum(images) - 1
        return replace(
            self,
            score=self.score[candidates],
            image=image_now[self.image[candidates]],
            lesion=lesion_now[self.lesion[candidates]],
            nearest=lesion_now[self.nearest[candidates]],
            nearest_iou=self.nearest_iou[candidates],
            image_of_lesion=image_now[self.image_of_lesion[lesions]],
            patient=self.patient[images],
        )


def match(results: Sequence[ImageResult], iou: float | None, max_candidates: int = MAX_CANDIDATES) -> Matches:
    """Match candidates to lesions on each image.

    By falling score each candidate takes the lesion not yet taken with which its IoU is highest, if that is ``iou`` or
    more (of equal ones the last); otherwise, if its intersection with a crowd region is ``iou`` or more of its own
    area, it counts neither way; otherwise it is a false positive. So is a second candidate on one lesion.

    With ``CENTRE`` for ``iou`` only lesions (and crowd regions) that hold the candidate's centre come into question.

    Raises
    ------
    EvaluationError
        If there are no results, or two of one image.
    """
    return match_by(results, (iou,), max_candidates)[0]


def match_by(
    results: Sequence[ImageResult], ious: Sequence[float | None], max_candidates: int = MAX_CANDIDATES
) -> list[Matches]:
    """As `match`, by several rules: the boxes are compared once."""
    if not results:
        raise EvaluationError("there is nothing to evaluate: no image.")
    ordered = sorted(results, key=lambda result: result.image_id)
    for before, after in pairwise(ordered):
        if before.image_id == after.image_id:
            raise EvaluationError(f"image {after.image_id} has two results.")
    index_of = {patient: index for index, patient in enumerate(sorted({result.patient for result in ordered}))}
    patient = np.array([index_of[result.patient] for result in ordered], np.intp)
    n_truth = [len(result.truth) for result in ordered]
    image_of_lesion = np.repeat(np.arange(len(ordered)), n_truth)
    first_lesion = np.cumsum([0, *n_truth[:-1]])
    pairs = [compare_boxes(result, max_candidates) for result in ordered]

    def by(iou: float | None) -> Matches:
        scores, images, lesions, nearest, nearest_ious = [], [], [], [], []
        for index, pair in enumerate(pairs):
            taken = pair.taken_lesions(iou)
            counts = (taken >= 0) | ~pair.in_crowd(iou)
            scores.append(pair.score[counts])
            images.append(np.full(counts.sum(), index, np.intp))
            lesions.append(np.where(taken >= 0, taken + first_lesion[index], -1)[counts])
            near, near_iou = pair.nearest()
            nearest.append(np.where(near >= 0, near + first_lesion[index], -1)[counts])
            nearest_ious.append(near_iou[counts])
        score = np.concatenate(scores)
        order = np.argsort(-score, kind="stable")
        return Matches(
            score=score[order],
            image=np.concatenate(images)[order],
            lesion=np.concatenate(lesions)[order],
            nearest=np.concatenate(nearest)[order],
            nearest_iou=np.concatenate(nearest_ious)[order],
            image_of_lesion=image_of_lesion,
            patient=patient,
            iou=iou,
            n_patients=len(index_of),
        )

    return [by(iou) for iou in ious]


@dataclass(frozen=True, slots=True, eq=False)
class BoxPairs:
    """The candidates of one image beside its lesions and crowd regions.

    Parameters
    ----------
    score
        Shape (candidates,), falling.
    iou, holds_centre
        Shape (candidates, lesions): intersection over union; whether the lesion's box holds the candidate's centre.
    crowd_share, crowd_holds_centre
        Shape (candidates, crowds): share of the candidate inside the region; whether that holds its centre.
    """

    score: NDArray[np.float64]
    iou: NDArray[np.float64]
    holds_centre: NDArray[np.bool_]
    crowd_share: NDArray[np.float64]
    crowd_holds_centre: NDArray[np.bool_]

    def taken_lesions(self, iou: float | None) -> NDArray[np.intp]:
        """Shape (candidates,): the lesion that each takes, or -1."""
        fits = self.holds_centre if iou is CENTRE else self.iou >= iou
        open_ious = np.where(fits, self.iou, -1.0)
        taken = np.full(len(self.score), -1, np.intp)
        for index in np.flatnonzero(fits.any(axis=1)):
            last_best = open_ious.shape[1] - 1 - int(open_ious[index, ::-1].argmax())
            if open_ious[index, last_best] >= 0:
                taken[index] = last_best
                open_ious[:, last_best] = -1.0
        return taken

    def nearest(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The lesion of highest IoU of each candidate, or -1, and that IoU; each of shape (candidates,)."""
        if not self.iou.shape[1]:
            return np.full(len(self.score), -1, np.intp), np.zeros(len(self.score))
        return self.iou.argmax(axis=1), self.iou.max(axis=1)

    def in_crowd(self, iou: float | None) -> NDArray[np.bool_]:
        """Shape (candidates,): whether it lies in a crowd region."""
        inside = self.crowd_holds_centre if iou is CENTRE else self.crowd_share >= iou
        return np.asarray(inside.any(axis=1))


def compare_boxes(result: ImageResult, max_candidates: int = MAX_CANDIDATES) -> BoxPairs:
    """An image's candidates with the highest scores beside its lesions and crowd regions."""
    candidates = sorted(result.candidates, key=lambda finding: -finding.score)[:max_candidates]
    boxes = _as_array([finding.box for finding in candidates])
    truth, crowds = _as_array(result.truth), _as_array(result.crowds)
    overlap = _intersection(boxes, truth)
    area = _area(boxes)
    return BoxPairs(
        score=np.array([finding.score for finding in candidates], np.float64),
        iou=overlap / (area[:, None] + _area(truth)[None, :] - overlap),
        holds_centre=_holds_centre(boxes, truth),
        crowd_share=_intersection(boxes, crowds) / area[:, None],
        crowd_holds_centre=_holds_centre(boxes, crowds),
    )


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


def _holds_centre(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each of ``b``, shape (m, 4), holds the centre of each of ``a``, shape (n, 4), its edges included."""
    centre = ((a[:, :2] + a[:, 2:]) / 2)[:, None, :]
    return np.asarray(((centre >= b[None, :, :2]) & (centre <= b[None, :, 2:])).all(axis=2))
