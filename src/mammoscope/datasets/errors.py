"""What can be wrong with a data set."""

from mammoscope.errors import MammoscopeError


class DatasetError(MammoscopeError):
    """A data set, or one of its files, that cannot be used as it is."""


class PatientUnknownError(DatasetError):
    """Neither the annotations nor the file's name say which patient an image belongs to."""
