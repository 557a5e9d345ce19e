"""The node's settings: one TOML file, checked before anything starts; the only reader of the environment."""

from mammoscope.settings.loading import NodeSettings, SettingsError, load_node_settings
from mammoscope.settings.reference import reference, starting_file
from mammoscope.settings.schema import (
    AuditSettings,
    DestinationSettings,
    HealthSettings,
    ModelSettings,
    ResultKind,
    ServiceSettings,
    SourceSettings,
    TLSSettings,
    Transport,
    WebSettings,
)

__all__ = [
    "AuditSettings",
    "DestinationSettings",
    "HealthSettings",
    "ModelSettings",
    "NodeSettings",
    "ResultKind",
    "ServiceSettings",
    "SettingsError",
    "SourceSettings",
    "TLSSettings",
    "Transport",
    "WebSettings",
    "load_node_settings",
    "reference",
    "starting_file",
]
