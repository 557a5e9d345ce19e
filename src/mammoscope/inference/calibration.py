"""From a network's score to the probability that a mark is a lesion."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

_LOWEST, _HIGHEST = 1e-30, 1 - 2.0**-25  # a score's odds must be a number; float32 knows nothing between the last and 1


class Calibration(BaseModel):
    """A rising curve of two parameters: the log odds of a score, times ``slope``, plus ``intercept``.

    Platt: Probabilistic Outputs for Support Vector Machines, 1999, on a score's log odds. As it rises, no two findings
    change places: AP, FROC and whatever a threshold lets through stay as they are.

    Parameters
    ----------
    rule
        What the probability is of, in words.
    fitted_on
        On which images it was fitted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    slope: float = Field(gt=0)
    intercept: float
    rule: str
    fitted_on: str

    def probability(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """The probabilities of a network's scores from 0 to 1; any shape."""
        return from_log_odds(self.slope * log_odds(scores) + self.intercept)

    def score(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """The network's scores that have these probabilities: the way back."""
        return from_log_odds((log_odds(probabilities) - self.intercept) / self.slope)


def log_odds(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The natural logarithm of s / (1 - s); scores of 0 and 1 count as the nearest with finite odds."""
    inside = np.clip(np.asarray(scores, np.float64), _LOWEST, _HIGHEST)
    return np.asarray(np.log(inside) - np.log1p(-inside), np.float64)


def from_log_odds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores of these log odds: the way back."""
    return np.asarray(1 / (1 + np.exp(-values)), np.float64)
