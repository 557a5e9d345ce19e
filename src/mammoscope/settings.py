"""The node's settings: one TOML file, checked before anything starts.

Each key may also come from the environment, which wins: ``MAMMOSCOPE_NODE__PORT`` is ``port`` in ``[node]``, and
``MAMMOSCOPE_DESTINATIONS`` all the destinations as one JSON list.
"""

import difflib
import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic_settings
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mammoscope.errors import MammoscopeError


class SettingsError(MammoscopeError):
    """A settings file that is missing, is no TOML or says something that cannot be."""


def _ae_title(value: str) -> str:
    if not value.strip() or len(value) > 16 or "\\" in value or not (value.isascii() and value.isprintable()):
        raise ValueError("an AE title is 1 to 16 plain characters without a backslash")
    return value.strip()


AETitle = Annotated[str, AfterValidator(_ae_title)]
"""DICOM PS3.5 value representation AE."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceSettings(_Section):
    """``[node]``: who we are, where we listen and where we keep things.

    Parameters
    ----------
    host, port
        Address to listen on. Port 0 takes a free one.
    storage
        Folder for everything the node keeps; on a local file system with hard links.
    quiet_seconds
        A study is read when no image of it arrived for so long.
    allowed_callers
        Calling AE titles that may associate; empty for all.
    keep_images_hours
        How long the images of a read study are kept, so that a late one is reported together with them.
    """

    ae_title: AETitle = "MAMMOSCOPE"
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=11112, ge=0, le=65535)
    storage: Path = Path("mammoscope-node")
    quiet_seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    allowed_callers: tuple[AETitle, ...] = ()
    keep_images_hours: float = Field(default=24.0, ge=0, allow_inf_nan=False)


class DestinationSettings(_Section):
    """One ``[[destinations]]``: a peer that takes the results.

    Parameters
    ----------
    name
        What logs and records call it.
    retry_hours
        How long a result that cannot be delivered is tried again before it is put aside.
    """

    name: str = Field(min_length=1)
    ae_title: AETitle
    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    retry_hours: float = Field(default=24.0, ge=0, allow_inf_nan=False)


class ModelSettings(_Section):
    """``[model]``: the bundle that reads.

    Parameters
    ----------
    bundle
        An exported bundle; ``None`` for the one shipped with Mammoscope.
    threads
        ``None`` for all cores.
    threshold
        Lowest score reported; ``None`` for the bundle's own operating point.
    """

    bundle: Path | None = None
    threads: int | None = Field(default=None, ge=1)
    threshold: float | None = Field(default=None, ge=0, le=1)


class NodeSettings(BaseSettings):
    """All the settings of a node."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="MAMMOSCOPE_", env_nested_delimiter="__", validate_default=True
    )

    node: ServiceSettings = ServiceSettings()
    destinations: tuple[DestinationSettings, ...] = Field(min_length=1)
    model: ModelSettings = ModelSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [d.name for d in self.destinations]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two destinations have the name '{name}'; give each its own")
        return self


_JSON_VARIABLES = frozenset(f"MAMMOSCOPE_{name}" for name in ("NODE", "NODE__ALLOWED_CALLERS", "DESTINATIONS", "MODEL"))


class _FileSettings(NodeSettings):
    """What the file alone says, to tell whether a mistake is there or in the environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def load_node_settings(path: Path) -> NodeSettings:
    """Read and check a node's settings. Relative paths in the file start from the folder it lies in.

    Raises
    ------
    SettingsError
        If the file cannot be read, is no TOML, or it or the environment holds an unknown key or an impossible value;
        says which, and where.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"there is no settings file {path}; 'mammoscope node init' writes one to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as a text file: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {str(error)[:1].lower()}{str(error)[1:]}") from None
    try:
        settings = NodeSettings(**values)
    except pydantic_settings.SettingsError:
        raise SettingsError(
            f"the environment variable {_without_json()} is not valid JSON: write it as JSON, or set it in {path}"
        ) from None
    except ValidationError as error:
        mistake = error.errors()[0]
        raise SettingsError(f"{_origin(path, values, mistake)}: {_sentence(mistake)}") from None
    return _with_paths_from(path.resolve().parent, settings)


def _with_paths_from(folder: Path, settings: NodeSettings) -> NodeSettings:
    node = settings.node.model_copy(update={"storage": folder / settings.node.storage})
    bundle = settings.model.bundle
    model = settings.model.model_copy(update={"bundle": bundle and folder / bundle})
    return settings.model_copy(update={"node": node, "model": model})


def _without_json() -> str:
    """The variable that pydantic-settings failed to parse: it names the section only."""
    for variable, value in os.environ.items():
        if variable.upper() in _JSON_VARIABLES:
            try:
                json.loads(value)
            except ValueError:
                return variable
    return "MAMMOSCOPE_..."


def _origin(path: Path, values: dict[str, Any], mistake: ErrorDetails) -> str:
    """Where a mistake was made: the file, if it is there without the environment too."""
    variable = _variable(mistake)
    if variable is None:
        return str(path)
    try:
        _FileSettings(**values)
    except ValidationError as error:
        key = ("type", "loc", "input")
        if [mistake.get(k) for k in key] in [[e.get(k) for k in key] for e in error.errors()]:
            return str(path)
    return f"the environment variable {variable}"


def _variable(mistake: ErrorDetails) -> str | None:
    """The environment variable that sets the place of a mistake, or the closest part of it."""
    set_here = {variable.upper(): variable for variable in os.environ}
    for length in range(len(mistake["loc"]), 0, -1):
        name = "MAMMOSCOPE_" + "__".join(str(part) for part in mistake["loc"][:length]).upper()
        for upper, variable in set_here.items():
            if upper == name or upper.startswith(f"{name}__"):
                return variable
    return None


def _sentence(error: ErrorDetails) -> str:
    """Put the first thing that pydantic found wrong into the words of someone who writes TOML."""
    *section, key = error["loc"] or ("",)
    place = _place(section)
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key '{key}'{place}{_did_you_mean(str(key), section)}"
        case "missing" if not section:
            return f"[[{key}]] is missing; say at least once where results go"
        case "missing":
            return f"the key '{key}'{place} is missing"
        case "too_short" if key == "destinations":
            return "[[destinations]] is empty; say at least once where results go"
        case "value_error":
            what = error["msg"].removeprefix("Value error, ")
            return what if not error["loc"] else f"'{error['input']}' for '{key}'{place} cannot be: {what}"
        case _:
            what = error["msg"].replace("Input should be ", "must be ").replace("Value ", "")
            return f"'{key}'{place} {what[:1].lower()}{what[1:]}, not {error['input']!r}"


def _place(section: list[Any]) -> str:
    match section:
        case ["destinations", int(index), *_]:
            return f" in [[destinations]] number {index + 1}"
        case [name, *_]:
            return f" in [{name}]"
        case _:
            return ""


def _did_you_mean(key: str, section: list[Any]) -> str:
    sections: dict[str, type[BaseModel]] = {
        "node": ServiceSettings,
        "destinations": DestinationSettings,
        "model": ModelSettings,
    }
    known = list((sections[section[0]] if section else NodeSettings).model_fields)
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known)}"
