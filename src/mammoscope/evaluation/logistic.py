"""Logistic regression by Newton's method: a handful of weights, no more."""

import numpy as np

from mammoscope.evaluation.metrics import Floats

_STEPS = 100
_STEEPNESS = 1e-9  # mean gradient below which the fit is done


def soft_targets(hit: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Floats:
    """Hits as slightly less than certain and the others as slightly more than impossible.

    As Platt 1999 and Lin, Lin and Weng 2007 do, so that few candidates do not make a curve of infinite slope.
    """
    hits = int(hit.sum())
    return np.where(hit, (hits + 1) / (hits + 2), 1 / (len(hit) - hits + 2))


def least_log_loss(columns: Floats, target: Floats) -> Floats:
    """The weights, shape (k,), of the logistic curve of ``columns``, shape (n, k), whose log-loss is least.

    Newton's method with halved steps. One of the columns should be ones, for the intercept.
    """
    weights = np.zeros(columns.shape[1])
    loss = log_loss(columns @ weights, target)
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-columns @ weights))
        gradient = columns.T @ (probability - target) / len(columns)
        if np.abs(gradient).max() < _STEEPNESS:
            break
        bend = (columns * (probability * (1 - probability))[:, None]).T @ columns / len(columns)
        step = np.linalg.lstsq(bend, gradient, rcond=None)[0]
        while (now := log_loss(columns @ (weights - step), target)) > loss and np.abs(step).max() > _STEEPNESS:
            step /= 2
        weights, loss = weights - step, now
    return np.asarray(weights, np.float64)


def log_loss(values: Floats, target: Floats) -> float:
    """Mean of -t log p - (1 - t) log(1 - p), p the logistic curve of ``values``."""
    return float((np.logaddexp(0, values) - target * values).mean())
