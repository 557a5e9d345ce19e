"""Several runs as one network of their mean weights: the time of one network, some of the gain of several."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mammoscope.detectors import MassDetector
from mammoscope.training.checkpoint import RunFolder
from mammoscope.training.errors import TrainingError
from mammoscope.training.export import trained_detector


def averaged_detector(runs: Sequence[RunFolder]) -> MassDetector:
    """The first run's detector with the mean of all runs' weights (a model soup, Wortsman et al. 2022).

    Weights have a meaningful mean only where the runs grew from one: one that starts from another (``start`` in its
    recipe), or several that start from the same. Others average to a network that finds nothing.

    Raises
    ------
    TrainingError
        If a run has no checkpoint, or the runs' networks are not of one kind.
    """
    detectors = [trained_detector(run) for run in runs]
    states = [detector.state_dict() for detector in detectors]
    for run, state in zip(runs[1:], states[1:], strict=True):
        if _shapes(state) != _shapes(states[0]):
            raise TrainingError(
                f"{run.path} and {runs[0].path} are networks of different kinds, whose weights have no mean: fuse them "
                "instead, or average runs of the same backbone, pyramid and head"
            )
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if first.is_floating_point() else first
        for name, first in states[0].items()
    }
    detectors[0].load_state_dict(mean)
    return detectors[0]


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}
