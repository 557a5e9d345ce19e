"""Parts that other packages bring: a detector, a backbone, a loss, an augmentation.

In: what a recipe calls one, a dotted path (``package.module:name``) or the name of an entry point that an installed
package declares. Out: the thing itself. Whoever runs a recipe runs the code that it names.
"""

from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mammoscope.errors import MammoscopeError, what_is_wrong


class ExtensionError(MammoscopeError):
    """A part of another package that is not there or does not do what its kind has to."""


class ExtensionPoint(StrEnum):
    """A kind of part; its value is the group of its entry points."""

    DETECTOR = "mammoscope.detectors"
    BACKBONE = "mammoscope.backbones"
    LOSS = "mammoscope.losses"
    AUGMENTATION = "mammoscope.augmentations"

    @property
    def noun(self) -> str:
        """What to call one in a sentence."""
        return self.name.lower()


def extensions(point: ExtensionPoint) -> dict[str, EntryPoint]:
    """The parts of that kind which installed packages declare, by name."""
    return {entry.name: entry for entry in entry_points(group=str(point))}


def names_an_extension(point: ExtensionPoint, name: str) -> bool:
    """Whether a name is a dotted path or a declared part; nothing is imported."""
    return ":" in name or name in extensions(point)


def load_extension(point: ExtensionPoint, name: str) -> Callable[..., Any]:
    """The part that a recipe names.

    Raises
    ------
    ExtensionError
        If nothing has that name, its module cannot be imported, or it cannot be called.
    """
    place = declared.value if (declared := extensions(point).get(name)) else name
    module_name, _, attribute = place.partition(":")
    if not module_name or not attribute:
        raise ExtensionError(
            f"there is no {point.noun} {name!r}: give a dotted path (package.module:name), or the name of an entry "
            f"point {point} of an installed package"
        )
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        raise ExtensionError(
            f"the {point.noun} {name} cannot be imported: there is no module {error.name} here; install its package "
            "in this environment, or correct the path"
        ) from error
    except Exception as error:
        raise ExtensionError(
            f"the {point.noun} {name} cannot be imported: its module failed with {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ExtensionError(f"the {point.noun} {name} is not there: {module_name} has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise ExtensionError(f"the {point.noun} {name} cannot be called: name a class or a function")
    called: Callable[..., Any] = found
    return called


def built(point: ExtensionPoint, name: str, *arguments: Any, **options: Any) -> Any:
    """What the part that a recipe names returns for these arguments.

    Raises
    ------
    ExtensionError
        As `load_extension`, and if it does not take them.
    """
    make = load_extension(point, name)
    try:
        return make(*arguments, **options)
    except MammoscopeError:
        raise
    except Exception as error:
        raise ExtensionError(f"the {point.noun} {name} failed with {type(error).__name__}: {error}") from error


_Options = TypeVar("_Options", bound=BaseModel)


def read_options(kind: type[_Options], name: str, options: dict[str, Any]) -> _Options:
    """``detector.options`` as a part reads them.

    Raises
    ------
    ExtensionError
        If a key is missing, unknown or of another kind; it names the first.
    """
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ExtensionError(
            f"detector.options of {name}: {key}: {what_is_wrong(first)}; it knows {', '.join(kind.model_fields)}"
        ) from error
