"""Why a file or object cannot be read as a mammogram."""

from mammoscope.errors import MammoscopeError


class MammogramError(MammoscopeError):
    """A mammogram that cannot be read."""
