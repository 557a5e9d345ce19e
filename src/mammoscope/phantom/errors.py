"""Why a phantom cannot be made."""

from mammoscope.errors import MammoscopeError


class PhantomError(MammoscopeError):
    """A synthetic study that was asked for with values it cannot have, or that cannot be saved."""
