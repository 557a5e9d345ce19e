"""Why a finding cannot be explained."""

from mammoscope.errors import MammoscopeError


class ExplainError(MammoscopeError):
    """A finding that is not there, or a model that the method asked for cannot explain."""
