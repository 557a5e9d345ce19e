"""How well a network tells patches with a mass from those without."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.resampling import bootstrap_weights, interval_of

_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class PatchFigures:
    """Figures on held-out patients.

    Parameters
    ----------
    auc
        Area under the ROC curve.
    auc_interval
        95 % by bootstrap over patients; ``None`` where it is not defined.
    balanced_accuracy
        Mean of sensitivity and specificity at a probability of 0.5.
    masses, background
        How many patches there are of either kind.
    """

    auc: float
    auc_interval: tuple[float, float] | None
    balanced_accuracy: float
    masses: int
    background: int


def patch_figures(scores: NDArray[np.float64], masses: NDArray[np.bool_], patients: NDArray[np.str_]) -> PatchFigures:
    """Figures of scores (n,) against the truth (n,), resampled by patient (n,).

    The area is the part of pairs of a mass and a background in which the mass has the higher score, ties counting half
    (Mann and Whitney 1947).
    """
    ours, theirs = scores[masses], scores[~masses]
    wins = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
    _, whose = np.unique(patients, return_inverse=True)
    weights = bootstrap_weights(int(whose.max()) + 1, _RESAMPLES, seed=1)[:, whose]
    of_masses, of_background = weights[:, masses], weights[:, ~masses]
    with np.errstate(invalid="ignore"):
        resampled = (of_masses @ wins * of_background).sum(axis=1) / (of_masses.sum(axis=1) * of_background.sum(axis=1))
    return PatchFigures(
        auc=float(wins.mean()) if wins.size else float("nan"),
        auc_interval=interval_of(resampled),
        balanced_accuracy=float(((ours >= 0.5).mean() + (theirs < 0.5).mean()) / 2) if wins.size else float("nan"),
        masses=len(ours),
        background=len(theirs),
    )
