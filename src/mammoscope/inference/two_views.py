"""The CC and the MLO view of one breast, read together: each candidate is scored anew by what the other view shows.

A mass keeps its depth behind the nipple and its size from one view to the other, so a candidate that has its like on
the other view is likelier to be one, and a candidate without is less likely. Which images those are and where the
breast lies on them, a `Reading` that kept its candidates says; a view alone stays as it is
(docs/decisions/058-two-views-of-a-breast.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mammoscope.findings import MOST_BELOW_THRESHOLD, Finding, Reading, ReadingStatus
from mammoscope.imaging import BreastExtent, Laterality, View
from mammoscope.inference.calibration import from_log_odds, log_odds

Floats = NDArray[np.float64]

TOGETHER = frozenset((View.CC, View.MLO))
"""The views that are read together."""

NOT_WHOLE = frozenset(("magnification", "spot compression"))
"""View modifiers of images that show a part of a breast."""


@dataclass(frozen=True, slots=True)
class BreastView:
    """What was proposed on one view of a breast.

    Parameters
    ----------
    candidates
        With their scores as read from this view alone, calibrated.
    """

    view: View
    candidates: tuple[Finding, ...]
    extent: BreastExtent


class TwoViews(BaseModel):
    """How the other view of a breast changes the score of a candidate.

    The log odds of a candidate's score become ``intercept + own * log odds + other * log(floor + support)``, where
    ``support`` is the sum of the scores of the other view's candidates of its class, each times how alike the two are:
    a Gaussian of the difference of their depths behind the nipple (as parts of the breast's depth) and of the
    logarithms of their sizes (root of the box's area over the breast's depth).

    Parameters
    ----------
    intercept, own, other
        Fitted by logistic regression on validation.
    floor
        Support that a candidate without any like on the other view still has.
    depth_offset, depth_spread, size_offset, size_spread
        Median of CC minus MLO for one mass and root mean square about it, as measured on 389 breasts with one mass on
        each view that a CBIS-DDSM detector learnt from. (`benchmarks/pairing.py` gives 0.074, 0.155, 0.044 and 0.224
        on all 457 of the official training split.) The offset comes from the foremost edge of the breast,
        which lies further before the nipple on a CC view, and from the pectoral muscle on an MLO view.
    fitted_on
        On which images the weights were fitted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    intercept: float
    own: float = Field(gt=0)
    other: float = Field(gt=0)
    floor: float = Field(default=0.02, gt=0)
    depth_offset: float = 0.075
    depth_spread: float = Field(default=0.160, gt=0)
    size_offset: float = 0.057
    size_spread: float = Field(default=0.223, gt=0)
    fitted_on: str

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        if max(abs(self.intercept), self.own, self.other) > 100:
            raise ValueError("a weight of more than 100 is none that was fitted")
        return self

    def scores(self, here: BreastView, there: BreastView) -> Floats:
        """The new score of each candidate of the first view, shape (candidates,)."""
        weights = np.array([self.intercept, self.own, self.other])
        return from_log_odds(self.features(here, there) @ weights)

    def features(self, here: BreastView, there: BreastView) -> Floats:
        """What the weights are of, shape (candidates, 3): one, own log odds, logarithm of floor and support."""
        scores = np.array([finding.score for finding in here.candidates], np.float64)
        support = np.log(self.floor + self.support(here, there))
        return np.stack([np.ones_like(scores), log_odds(scores), support], axis=1)

    def support(self, here: BreastView, there: BreastView) -> Floats:
        """What the other view says for each candidate of the first: shape (candidates,), from 0."""
        sign = 1.0 if here.view is View.CC else -1.0
        depth, size = _places(here)
        their_depth, their_size = _places(there)
        off_depth = (np.subtract.outer(depth, their_depth) - sign * self.depth_offset) / self.depth_spread
        off_size = (np.subtract.outer(size, their_size) - sign * self.size_offset) / self.size_spread
        alike = np.exp(-(off_depth**2 + off_size**2) / 2)
        alike *= _labels(here)[:, None] == _labels(there)[None, :]
        return np.asarray(alike @ np.array([finding.score for finding in there.candidates], np.float64))

    def read_together(self, readings: Sequence[Reading]) -> list[Reading]:
        """The readings of one study, those of a breast seen on both views scored anew; none keeps its candidates.

        A breast is read together where exactly one CC and one MLO view of it kept candidates and extent, read by the
        same model. Every other reading is as it was.
        """
        together = list(readings)
        for one, other in pairs_of_views([(reading.laterality, reading.view) for reading in readings]):
            first, second = readings[one], readings[other]
            if first.extent is None or second.extent is None or first.algorithm != second.algorithm:
                continue  # not kept, or read before a restart by another model
            for place, here, there in ((one, first, second), (other, second, first)):
                together[place] = _rescored(here, self.scores(_seen(here), _seen(there)))
        return [
            replace(reading, candidates=(), extent=None) if reading.candidates or reading.extent else reading
            for reading in together
        ]


def pairs_of_views(images: Sequence[tuple[Any, View | None]]) -> list[tuple[int, int]]:
    """Places of the CC and of the MLO view of each breast that has exactly one of either.

    Parameters
    ----------
    images
        Of each image its breast (any value that tells breasts apart, ``None`` where it is unknown), and its view.
    """
    places: dict[tuple[Any, View], list[int]] = {}
    for place, (breast, view) in enumerate(images):
        if breast is not None and view in TOGETHER:
            places.setdefault((breast, view), []).append(place)
    return [
        (found[0], others[0])
        for (breast, view), found in places.items()
        if view is View.CC and len(found) == len(others := places.get((breast, View.MLO), [])) == 1
    ]


def is_whole_view(view: View | None, laterality: Laterality | None, modifiers: Sequence[str]) -> bool:
    """Whether an image shows a whole breast, known by its side, on a view that is read together with another."""
    return view in TOGETHER and laterality is not None and NOT_WHOLE.isdisjoint(modifiers)


def _seen(reading: Reading) -> BreastView:
    assert reading.view is not None
    assert reading.extent is not None
    return BreastView(reading.view, reading.candidates, reading.extent)


def _rescored(reading: Reading, scores: Floats) -> Reading:
    threshold = 0.0 if reading.threshold is None else reading.threshold
    scored = (replace(found, score=score) for found, score in zip(reading.candidates, scores.tolist(), strict=True))
    ordered = sorted(scored, key=lambda finding: finding.score, reverse=True)
    findings = tuple(finding for finding in ordered if finding.score >= threshold)
    status = ReadingStatus.FOUND if findings else ReadingStatus.NOTHING_FOUND
    below = tuple(ordered[len(findings) : len(findings) + MOST_BELOW_THRESHOLD])
    return replace(reading, status=status, findings=findings, below_threshold=below)


def _places(seen: BreastView) -> tuple[Floats, Floats]:
    """Depth behind the nipple, and logarithm of the size, of each candidate; both as parts of the breast's depth."""
    whole = seen.extent.depth
    depths = [abs(finding.box.center[0] - seen.extent.nipple) / whole for finding in seen.candidates]
    sizes = [math.log(math.sqrt(finding.box.area) / whole) for finding in seen.candidates]
    return np.array(depths, np.float64), np.array(sizes, np.float64)


def _labels(seen: BreastView) -> NDArray[np.str_]:
    return np.array([finding.label.casefold() for finding in seen.candidates], np.str_)
