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

from mammoscope.errors import MammoscopeError, requirement, what_is_wrong
from mammoscope.settings.reference import SECTIONS
from mammoscope.settings.schema import (
    AuditSettings,
    DestinationSettings,
    HealthSettings,
    ModelSettings,
    NoticeSettings,
    OpenIDSettings,
    ReviewSettings,
    RuleSettings,
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
    rules: tuple[RuleSettings, ...] = ()
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
        for what, peers in (("destinations", self.destinations), ("sources", self.sources), ("rules", self.rules)):
            names = [peer.name for peer in peers]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"two {what} have the name '{name}'; give each its own")
        return self

    @model_validator(mode="after")
    def _rules_name_what_there_is(self) -> Self:
        names = [destination.name for destination in self.destinations]
        for rule in self.rules:
            for name in rule.destinations or ():
                if name not in names:
                    raise ValueError(
                        f"the rule '{rule.name}' names the destination '{name}', which there is not; there is"
                        f" {', '.join(names)}"
                    )
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
        "RULES",
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
    """Read and check a node's settings. Relative paths in a file start from the folder it lies in.

    Raises
    ------
    SettingsError
        If the file cannot be read, is no TOML, or it or the environment holds an unknown key or an impossible value;
        says which, and where.
    """
    files = _file_and_included(path)
    values = _merged([said for _, said in files])
    try:
        settings = NodeSettings(**values)
    except pydantic_settings.SettingsError:
        raise SettingsError(
            f"the environment variable {_without_json()} is not valid JSON: write it as JSON, or set it in {path}"
        ) from None
    except ValidationError as error:
        mistake = error.errors()[0]
        raise SettingsError(
            f"{_origin(_file_of(mistake['loc'], files), values, mistake)}: {_sentence(mistake)}"
        ) from None
    return _with_paths_from(path.resolve().parent, settings)


Files = Sequence[tuple[Path, dict[str, Any]]]
"""Each with what it says: the file of the settings itself, then those that it includes."""


def _file_and_included(path: Path) -> Files:
    values = _toml_of(path)
    included = values.pop("include", [])
    if not isinstance(included, list) or not all(isinstance(one, str) for one in included):
        raise SettingsError(f"{path}: 'include' is a list of file names, such as [\"common.toml\"]")
    files = [(path, values)]
    for name in included:
        file = path.resolve().parent / name
        said = _toml_of(file, f", which {path} includes")
        if "include" in said:
            raise SettingsError(f"{file} is included and includes others itself: name them all in {path}")
        files.append((file, _with_absolute_paths(said, file.parent)))
    return files


def _toml_of(path: Path, why: str = "; 'mammoscope node init' writes one to start from") -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"there is no settings file {path}{why}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as a text file: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {str(error)[:1].lower()}{str(error)[1:]}") from None


def _merged(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several files say together: of one key the first file's word, of blocks that may be repeated all."""
    merged: dict[str, Any] = {}
    for values in said:
        for section, value in values.items():
            there = merged.get(section)
            if isinstance(there, dict) and isinstance(value, dict):
                merged[section] = {**value, **there}
            elif isinstance(there, list) and isinstance(value, list):
                merged[section] = [*there, *value]
            else:
                merged.setdefault(section, value)
    return merged


def _file_of(place: tuple[int | str, ...], files: Files) -> Path:
    """The file that says what stands at a place of the settings."""
    section, *keys = place or ("",)
    if keys and isinstance(keys[0], int):  # blocks are those of all files, one after the other
        number = keys[0]
        for file, said in files:
            blocks = said.get(str(section))
            count = len(blocks) if isinstance(blocks, list) else 0
            if number < count:
                return file
            number -= count
        return files[0][0]
    having = [file for file, said in files if section in said]
    for file, said in files:
        if keys and isinstance(said.get(str(section)), dict) and keys[0] in said[str(section)]:
            return file
    return having[0] if having else files[0][0]


_PATHS = {"node": ("storage",), "model": ("bundle",), "tls": ("certificate", "key", "trusted")}


def _with_absolute_paths(said: dict[str, Any], folder: Path) -> dict[str, Any]:
    made = dict(said)
    for section, keys in _PATHS.items():
        if isinstance(said.get(section), dict):
            values = said[section]
            made[section] = values | {k: str(folder / values[k]) for k in keys if isinstance(values.get(k), str)}
    return made


def _with_paths_from(folder: Path, settings: NodeSettings) -> NodeSettings:
    """Every path of the settings, made to start from a folder."""

    def from_folder(section: _Section, *keys: str) -> _Section:
        paths = {key: getattr(section, key) for key in keys}
        return section.model_copy(update={key: path and folder / path for key, path in paths.items()})

    return settings.model_copy(
        update={
            "node": from_folder(settings.node, *_PATHS["node"]),
            "model": from_folder(settings.model, *_PATHS["model"]),
            "tls": settings.tls and from_folder(settings.tls, *_PATHS["tls"]),
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
            return _demand(error, section, key)


def _demand(error: ErrorDetails, section: list[Any], key: int | str) -> str:
    """What a key's value has to be, and what it is."""
    shown = "" if error["type"] in {"string_too_short", "too_short", "too_long"} else _shown(error, ", not ")
    if isinstance(key, int) and section:
        *section, name = section
        return f"entry {key + 1} of '{name}'{_place(section)} {requirement(error)}{shown}"
    return f"'{key}'{_place(section)} {requirement(error)}{shown}"


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
    what = what_is_wrong(error)
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
        case [("destinations" | "sources" | "rules") as name, int(index), *_]:
            return f" in [[{name}]] number {index + 1}"
        case [name, *_]:
            return f" in [{name}]"
        case _:
            return ""


def _did_you_mean(key: str, section: list[Any]) -> str:
    known = list((SECTIONS[section[0]] if section else NodeSettings).model_fields)
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known)}"
