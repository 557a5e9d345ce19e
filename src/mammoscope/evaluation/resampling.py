"""The bootstrap over patients: what is drawn, and the interval of what comes of it."""

import numpy as np

from mammoscope.evaluation.figures import Floats

_LEVEL = (2.5, 97.5)


def bootstrap_weights(n_patients: int, resamples: int, seed: int) -> Floats:
    """How often each patient was drawn, shape (resamples, patients)."""
    drawn = np.random.default_rng(seed).multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)
    return drawn.astype(np.float64)


def interval_of(values: Floats) -> tuple[float, float] | None:
    """2.5th and 97.5th percentile of what is defined among the resamples' values; ``None`` where nothing is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, _LEVEL)
    return float(low), float(high)
