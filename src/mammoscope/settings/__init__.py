"""The node's settings: one TOML file, checked before anything starts; the only reader of the environment."""

from mammoscope.settings.loading import NodeSettings, SettingsError, load_node_settings
from mammoscope.settings.reference import reference, starting_file
from mammoscope.settings.schema import (
    AuditSettings,
    DestinationSettings,
    HealthSettings,
    ModelSettings,
    NoticeSettings,
    RuleSettings,
    ServiceSettings,
    SourceSettings,
    TLSSettings,
    Transport,
    WebSettings,
)
from mammoscope.settings.viewers import ResultKind, Viewer, kinds_for, not_shown

__all__ = [
    "AuditSettings",
    "DestinationSettings",
    "HealthSettings",
    "ModelSettings",
    "NodeSettings",
    "NoticeSettings",
    "ResultKind",
    "RuleSettings",
    "ServiceSettings",
    "SettingsError",
    "SourceSettings",
    "TLSSettings",
    "Transport",
    "Viewer",
    "WebSettings",
    "kinds_for",
    "load_node_settings",
    "not_shown",
    "reference",
    "starting_file",
]
