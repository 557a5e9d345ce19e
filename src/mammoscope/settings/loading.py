"""The node's settings: one TOML file, checked before anything starts.

Each key may also come from the environment, which wins: ``MAMMOSCOPE_NODE__PORT`` is ``port`` in ``[node]``, and
``MAMMOSCOPE_DESTINATIONS`` all the destinations as one JSON list.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import pydantic_settings
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mammoscope.errors import MammoscopeError
from mammoscope.settings.reference import SECTIONS
from mammoscope.settings.schema import (
    AuditSettings,
    DestinationSettings,
    HealthSettings,
    ModelSettings,
    NoticeSettings,
    OpenIDSettings,
    ReviewSettings,
    ServiceSettings,
    SourceSettings,
    TLSSettings,
    WebSettings,
)
from mammoscope.untrusted_text import one_line, without_secrets

LONGEST_VALUE = 100
"""Characters of a wrong value that a message shows."""


class SettingsError(MammoscopeError):
    """A settings file that is missing, is no TOML or says something that cannot be."""


_Section = TypeVar("_Section", bound=BaseModel)


class NodeSettings(BaseSettings):
    """All the settings of a node."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="MAMMOSCOPE_", env_nested_delimiter="__", validate_default=True
    )

    node: ServiceSettings = ServiceSettings()
    destinations: tuple[DestinationSettings, ...] = Field(min_length=1)
    model: ModelSettings = ModelSettings()
    sources: tuple[SourceSettings, ...] = ()
    tls: TLSSettings | None = None
    web: WebSettings | None = None
    review: ReviewSettings | None = None
    openid: OpenIDSettings | None = None
    health: HealthSettings | None = None
    audit: AuditSettings = AuditSettings()
    notices: NoticeSettings = NoticeSettings()

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
        for what, peers in (("destinations", self.destinations), ("sources", self.sources)):
            names = [peer.name for peer in peers]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"two {what} have the name '{name}'; give each its own")
        return self

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        for wrong in (
            self._without_certificate(),
            self._ports_that_collide(),
            self._nothing_to_listen_on(),
            self._nowhere_to_log_in(),
        ):
            if wrong is not None:
                raise ValueError(wrong)
        return self

    @property
    def listens_plain(self) -> bool:
        """Whether the node listens on the port without TLS: unless said, only where it has none with TLS."""
        if self.node.plain is not None:
            return self.node.plain
        return self.tls_port is None

    @property
    def tls_port(self) -> int | None:
        """The port to listen on by TLS; ``None`` for none."""
        return self.tls.listening_port if self.tls is not None else None

    def _without_certificate(self) -> str | None:
        if self.tls is not None:
            return None
        for peer in (*self.destinations, *self.sources):
            if peer.tls:
                return f"'{peer.name}' has tls = true, which needs the section [tls] with our certificate"
        for name, section in (("web", self.web), ("review", self.review)):
            if section is not None and section.tls:
                return f"[{name}] tls = true needs the section [tls] with our certificate"
        return None

    def _ports_that_collide(self) -> str | None:
        ports = [("port of [node]", self.node.port if self.listens_plain else 0), ("port of [tls]", self.tls_port or 0)]
        if self.web is not None and self.web.host in (self.node.host, "0.0.0.0", "::"):
            ports.append(("port of [web]", self.web.port))
        if self.review is not None and self.review.host in (self.node.host, "0.0.0.0", "::"):
            ports.append(("port of [review]", self.review.port))
        for number, (name, port) in enumerate(ports):
            for other, same in ports[:number]:
                if port == same != 0:
                    return f"the {other} and the {name} are both {port}; give each its own"
        return None

    def _nowhere_to_log_in(self) -> str | None:
        if self.openid is None or self.review is not None:
            return None
        return "[openid] is how readers log in to the reading room: it needs the section [review]"

    def _nothing_to_listen_on(self) -> str | None:
        if self.listens_plain or self.tls_port is not None:
            return None
        return "[node] plain = false without the section [tls] leaves nothing to listen on"


_JSON_VARIABLES = frozenset(
    f"MAMMOSCOPE_{name}"
    for name in (
        "NODE",
        "NODE__ALLOWED_CALLERS",
        "NODE__ALLOWED_ADDRESSES",
        "NODE__EXPECTED_VIEWS",
        "DESTINATIONS",
        "MODEL",
        "SOURCES",
        "TLS",
        "WEB",
        "WEB__TOKENS",
        "REVIEW",
        "OPENID",
        "OPENID__SCOPES",
        "OPENID__ROLES",
        "HEALTH",
        "AUDIT",
        "NOTICES",
        "NOTICES__MAIL_TO",
    )
)


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
    """Every path of the settings, made to start from a folder."""

    def from_folder(section: _Section, *keys: str) -> _Section:
        paths = {key: getattr(section, key) for key in keys}
        return section.model_copy(update={key: path and folder / path for key, path in paths.items()})

    return settings.model_copy(
        update={
            "node": from_folder(settings.node, "storage"),
            "model": from_folder(settings.model, "bundle"),
            "tls": settings.tls and from_folder(settings.tls, "certificate", "key", "trusted"),
        }
    )


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
            return f"unknown key '{one_line(key, LONGEST_VALUE)}'{place}{_did_you_mean(str(key), section)}"
        case "missing" if not section:
            return f"[[{key}]] is missing; say at least once where results go"
        case "missing":
            return f"the key '{key}'{place} is missing"
        case "too_short" if key == "destinations":
            return "[[destinations]] is empty; say at least once where results go"
        case "value_error":
            return _own_words(error)
        case _:
            what = error["msg"].replace("Input should be ", "must be ").replace("Value ", "")
            return f"'{key}'{place} {what[:1].lower()}{what[1:]}{_shown(error, ', not ')}"


def _shown(error: ErrorDetails, before: str = "") -> str:
    """The wrong value, where it cannot hold a secret: no table or list, and nothing of or beside a secret key."""
    value = error["input"]
    if _may_hold_a_secret(error["loc"]) or not isinstance(value, (str, int, float)):
        return ""
    return f"{before}{one_line(without_secrets(repr(value)), LONGEST_VALUE)}"


def _may_hold_a_secret(place: Sequence[int | str]) -> bool:
    section, *keys = place
    fields = SECTIONS[section].model_fields if section in SECTIONS else {}
    secret = {name for name, field in fields.items() if "SecretStr" in str(field.annotation)}
    names = [key for key in keys if isinstance(key, str)]
    return bool(secret) if not names else not secret.isdisjoint(names)


def _own_words(error: ErrorDetails) -> str:
    """What a check of our own says, and of which key or peer."""
    what = error["msg"].removeprefix("Value error, ")
    match error["loc"]:
        case ():
            return what
        case (name, int(index)):
            return f"[[{name}]] number {index + 1}: {what}"
        case _:
            *section, key = error["loc"]
            return f"{_shown(error) or 'the value'} for '{key}'{_place(section)} cannot be: {what}"


def _place(section: list[Any]) -> str:
    match section:
        case [("destinations" | "sources") as name, int(index), *_]:
            return f" in [[{name}]] number {index + 1}"
        case [name, *_]:
            return f" in [{name}]"
        case _:
            return ""


def _did_you_mean(key: str, section: list[Any]) -> str:
    known = list((SECTIONS[section[0]] if section else NodeSettings).model_fields)
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known)}"
