"""Several runs as one network of their mean weights: the time of one network, some of the gain of several."""

from collections.abc import Sequence

import torch

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
        If there is one run only, a run has no checkpoint, or the runs' networks are not of one kind.
    """
    if len(runs) < 2:
        raise TrainingError(
            f"{runs[0].path} is one run, which has no mean with others: name two runs or more to average"
        )
    detectors = [trained_detector(run) for run in runs]
    states = [detector.state_dict() for detector in detectors]
    for run, detector in zip(runs[1:], detectors[1:], strict=True):
        if _kind(detector) != _kind(detectors[0]):
            raise TrainingError(
                f"{run.path} and {runs[0].path} are networks of different kinds, whose weights have no mean: fuse them "
                "instead, or average runs of the same backbone, pyramid, head and anchors"
            )
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if first.is_floating_point() else first
        for name, first in states[0].items()
    }
    detectors[0].load_state_dict(mean)
    return detectors[0]


def _kind(detector: MassDetector) -> tuple[object, ...]:
    """What two networks share if a weight of one means what it means in the other."""
    spec = detector.spec
    shapes = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    return spec.architecture, spec.backbone, spec.layout, spec.norm, spec.anchor_scale, shapes
