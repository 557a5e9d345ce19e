"""Why a reading cannot become a DICOM object."""

from mammoscope.errors import MammoscopeError


class ResultError(MammoscopeError):
    """A reading that cannot be written as the object asked for, or an object that says something else."""
