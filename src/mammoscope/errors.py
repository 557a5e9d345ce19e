"""The base of every error that a user is told about in one sentence."""

from collections.abc import Mapping
from typing import Any


class MammoscopeError(Exception):
    """Something the user can correct.

    Its text is one sentence: which file or object, what is wrong, what to do. It never holds patient data.
    The command line prints it without a traceback.
    """


def what_is_wrong(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors (an entry of ``ValidationError.errors()``) as the rest of a sentence about its key."""
    given, limits = error.get("input"), error.get("ctx") or {}
    kind = str(error["type"])
    said = {
        "missing": "it is missing",
        "greater_than_equal": f"it has to be {limits.get('ge')} or more, not {given!r}",
        "greater_than": f"it has to be more than {limits.get('gt')}, not {given!r}",
        "less_than_equal": f"it has to be {limits.get('le')} or less, not {given!r}",
        "less_than": f"it has to be less than {limits.get('lt')}, not {given!r}",
        "multiple_of": f"it has to be a multiple of {limits.get('multiple_of')}, not {given!r}",
        "literal_error": f"it is one of {limits.get('expected')}, not {given!r}",
        "enum": f"it is one of {limits.get('expected')}, not {given!r}",
        "string_type": f"it is a text in quotes, not {given!r}",
        "string_too_short": "it must not be empty",
        "int_type": f"it is a whole number, not {given!r}",
        "int_parsing": f"it is a whole number, not {given!r}",
        "int_from_float": f"it is a whole number, not {given!r}",
        "float_type": f"it is a number, not {given!r}",
        "float_parsing": f"it is a number, not {given!r}",
        "finite_number": f"it is a finite number, not {given!r}",
        "bool_type": f"it is true or false, not {given!r}",
        "bool_parsing": f"it is true or false, not {given!r}",
        "path_type": f"it is a path in quotes, not {given!r}",
        "tuple_type": f"it is a list, not {given!r}",
        "list_type": f"it is a list, not {given!r}",
        "dict_type": f"it is a table of keys and values, not {given!r}",
        "model_type": f"it is a section with keys, not {given!r}",
        "too_short": f"it needs at least {limits.get('min_length')} entries",
        "too_long": f"it has at most {limits.get('max_length')} entries",
        "extra_forbidden": "there is no such key",
    }.get(kind)
    return said or str(error["msg"]).removeprefix("Value error, ")


def where_raised(error: BaseException) -> str:
    """Name the type of an unexpected error and the line it came from, not its text, which may quote a patient."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error).__name__
    module = traceback.tb_frame.f_globals.get("__name__", "?")
    return f"{type(error).__name__} in {module} line {traceback.tb_lineno}"
