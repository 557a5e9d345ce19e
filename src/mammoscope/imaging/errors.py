"""The one exception that says why a file or object is not a mammogram we can read."""


class MammogramError(Exception):
    """A mammogram that cannot be read.

    Its text is one sentence for the user: which file or object, what is wrong, what to do.
    It never holds patient data.
    """
