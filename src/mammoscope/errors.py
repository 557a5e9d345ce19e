"""The base of every error that a user is told about in one sentence."""

from collections.abc import Mapping
from typing import Any


class MammoscopeError(Exception):
    """Something the user can correct.

    Its text is one sentence: which file or object, what is wrong, what to do. It never holds patient data.
    The command line prints it without a traceback.
    """


def what_is_wrong(error: Mapping[str, Any], *, quoting: bool = True) -> str:
    """One of pydantic's errors (an entry of ``ValidationError.errors()``) as the rest of a sentence about its key.

    Parameters
    ----------
    quoting
        Say the value that was given; not where it may be a secret.
    """
    if error["type"] in _OWN_WORDS:
        return _own_words(error)
    if error["type"] in _WITHOUT_VALUE or not quoting:
        return f"it {requirement(error)}"
    return f"it {requirement(error)}, not {_short(error.get('input'))}"


def requirement(error: Mapping[str, Any]) -> str:
    """What the value of a key has to be, after pydantic's error: the rest of a sentence that begins with the key."""
    kind = str(error["type"])
    if kind in _OWN_WORDS:
        return f"cannot be: {_own_words(error)}"
    limits = {name: _plain(limit) for name, limit in (error.get("ctx") or {}).items()}
    return _REQUIREMENTS.get(kind, "has another value than this key takes").format_map({"min_length": 1, **limits})


_OWN_WORDS = {"value_error", "assertion_error"}
"""Errors that a check of Mammoscope's own raised, whose text is a sentence already."""

_WITHOUT_VALUE = {
    "missing", "extra_forbidden", "string_too_short", "too_short", "too_long", "json_invalid", "frozen_instance",
}  # fmt: skip

_TEXT, _WHOLE, _NUMBER = "has to be a text in quotes", "has to be a whole number", "has to be a number"
_LIST, _TABLE, _PATH = "has to be a list", "has to be a table of keys and values", "has to be a path in quotes"
_SWITCH, _DATE, _TIME = "has to be true or false", "has to be a date, such as 2026-01-31", "has to be a time"
_REQUIREMENTS = {
    "missing": "is missing",
    "extra_forbidden": "is no key that there is",
    "greater_than_equal": "has to be {ge} or more",
    "greater_than": "has to be more than {gt}",
    "less_than_equal": "has to be {le} or less",
    "less_than": "has to be less than {lt}",
    "multiple_of": "has to be a multiple of {multiple_of}",
    "literal_error": "has to be one of {expected}",
    "enum": "has to be one of {expected}",
    "string_type": _TEXT,
    "string_sub_type": _TEXT,
    "string_too_short": "must not be empty",
    "string_too_long": "has at most {max_length} characters",
    "string_pattern_mismatch": "has to be of the form {pattern}",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "has to be a finite number",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "path_type": _PATH,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _TABLE,
    "mapping_type": _TABLE,
    "model_type": "has to be a section with keys",
    "model_attributes_type": "has to be a section with keys",
    "none_required": "has to be left out",
    "too_short": "needs at least {min_length} entries",
    "too_long": "has at most {max_length} entries",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
    "time_type": _TIME,
    "time_parsing": _TIME,
    "datetime_type": "has to be a date and time",
    "datetime_parsing": "has to be a date and time",
    "datetime_from_date_parsing": "has to be a date and time",
    "json_invalid": "is not valid JSON",
    "json_type": "has to be JSON",
}
"""What each kind of pydantic's errors asks for (its list: https://docs.pydantic.dev/latest/errors/validation_errors/)."""

_LONGEST = 200


def _own_words(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"


def _plain(limit: object) -> object:
    """1 for 1.0: whoever writes a setting knows no difference."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def where_raised(error: BaseException) -> str:
    """Name the type of an unexpected error and the line it came from, not its text, which may quote a patient."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error).__name__
    module = traceback.tb_frame.f_globals.get("__name__", "?")
    return f"{type(error).__name__} in {module} line {traceback.tb_lineno}"
