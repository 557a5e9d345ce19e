"""Why a training cannot start or resume."""

from mammoscope.errors import MammoscopeError


class TrainingError(MammoscopeError):
    """A recipe, data set or checkpoint that cannot be trained with, or a run that broke."""
