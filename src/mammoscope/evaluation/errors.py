"""Why a figure cannot be given."""

from mammoscope.errors import MammoscopeError


class EvaluationError(MammoscopeError):
    """Results that cannot be evaluated as asked."""
