"""The reference of settings, and the file to start from, both made from the sections' own keys."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

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

REPEATED = ("destinations", "sources")
"""Sections that are written once for each peer."""
SECTIONS: dict[str, type[BaseModel]] = {
    "node": ServiceSettings,
    "destinations": DestinationSettings,
    "sources": SourceSettings,
    "model": ModelSettings,
    "tls": TLSSettings,
    "web": WebSettings,
    "review": ReviewSettings,
    "openid": OpenIDSettings,
    "health": HealthSettings,
    "audit": AuditSettings,
    "notices": NoticeSettings,
}
"""Every section, in the order in which they are told."""

_LINE = 100
_TO_SAY = {"node": ("ae_title", "host", "port", "storage"), "destinations": ("name", "ae_title", "host", "port")}
"""Keys that the file to start from says; it shows every other one commented out."""
_LEFT_OUT = ("sources", "tls", "review", "openid")
"""Sections that it shows commented out as a whole."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section.

    Parameters
    ----------
    meaning
        In one or two sentences.
    default
        As it is written in TOML; ``None`` where the key may be left out and stands for nothing then.
    example
        A value as it is written in TOML.
    required
        Whether the section must have it.
    """

    name: str
    meaning: str
    default: str | None
    example: str
    required: bool


def keys_of(section: str) -> Iterator[Key]:
    """Yield the keys of a section, in the order in which they are told."""
    for name, field in SECTIONS[section].model_fields.items():
        default = _default_of(field)
        example = field.examples[0] if field.examples else default
        yield Key(
            name,
            field.description or "",
            toml(default) if default is not None else None,
            toml(example),
            field.is_required(),
        )


def reference() -> str:
    """The reference of settings as a page of Markdown."""
    parts = [
        "# Settings of the node",
        "Made by `mammoscope node settings` from the program itself; do not edit.",
        "One TOML file, checked before anything starts. Relative paths start from its folder. Each key may also come"
        " from the environment, which wins: `MAMMOSCOPE_NODE__PORT` is `port` in `[node]`, and"
        " `MAMMOSCOPE_DESTINATIONS` all the destinations as one JSON list. `mammoscope node init` writes a file to"
        " start from, `mammoscope node check` tries what it says.",
    ]
    for section, model in SECTIONS.items():
        said = " ".join((model.__doc__ or "").split()).partition(": ")[2]
        rows = [_row(key) for key in keys_of(section)]
        parts += [
            f"## {_header(section)}",
            f"{said[:1].upper()}{said[1:]}",
            "\n".join(["| key | default | meaning | example |", "| --- | --- | --- | --- |", *rows]),
        ]
    return "\n\n".join("\n".join(textwrap.wrap(p, 120)) if p[0] not in "#|" else p for p in parts) + "\n"


def starting_file() -> str:
    """A commented settings file to start from; each key that is commented out has its default or an example."""
    parts = [
        "# Settings of a Mammoscope node. Research use only; not a medical device.\n"
        "# Relative paths start from this file's folder. A key that is commented out shows its default,\n"
        "# or after 'for example' a value that it might have.\n"
    ]
    for section, model in SECTIONS.items():
        said = " ".join((model.__doc__ or "").split()).partition(": ")[2]
        mark = "# " if section in _LEFT_OUT else ""
        lines = [*_comment(f"{said[:1].upper()}{said[1:]}"), f"{mark}{_header(section)}"]
        for key in keys_of(section):
            lines += _comment(key.meaning.replace("`", ""))
            if key.name in _TO_SAY.get(section, ()):
                lines.append(f"{key.name} = {key.default or key.example}")
            elif key.default is not None:
                lines.append(f"# {key.name} = {key.default}")
            else:
                lines.append(f"# for example: {key.name} = {key.example}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def toml(value: Any) -> str:
    """Write a value as in a TOML file."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {toml(item)}' for name, item in value.items())} }}"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(value.as_posix() if isinstance(value, Path) else value, ensure_ascii=False)


def _default_of(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True, validated_data={})
    return None if default is PydanticUndefined else default


def _header(section: str) -> str:
    return f"[[{section}]]" if section in REPEATED else f"[{section}]"


def _row(key: Key) -> str:
    default = "required" if key.required else "-" if key.default is None else f"`{key.default}`"
    return f"| `{key.name}` | {default} | {key.meaning} | `{key.name} = {key.example}` |"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _LINE - 2)]
