"""The base of every error that a user is told about in one sentence."""


class MammoscopeError(Exception):
    """Something the user can mend.

    Its text is one sentence: which file or object, what is wrong, what to do. It never holds patient data.
    The command line prints it without a traceback.
    """
