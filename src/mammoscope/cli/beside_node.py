"""What the commands share that ask a node's database beside the running node."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.node.events import Event
    from mammoscope.node.records import Records
    from mammoscope.settings import NodeSettings

Config = Annotated[Path, typer.Option("--config", "-c", help="The node's settings file (TOML).")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Study = Annotated[str, typer.Argument(help="Study Instance UID.", metavar="STUDY")]


@contextmanager
def records_of(config: Path) -> Iterator[tuple["NodeSettings", "Records"]]:
    """Open the database of the node with those settings, whether it runs or not.

    Raises
    ------
    SettingsError, DatabaseError
        If the settings or the database cannot be used.
    MammoscopeError
        If no node ever ran with them.
    """
    from mammoscope.settings import load_node_settings

    settings = load_node_settings(config)

    from mammoscope.node.database import SQLITE_FILE
    from mammoscope.node.records import Records

    storage, database = settings.node.storage, settings.node.database
    if not storage.is_dir() or (database is None and not (storage / SQLITE_FILE).is_file()):
        raise MammoscopeError(
            f"no node has run with the settings {config} yet: {storage} holds no records; start it with"
            " 'mammoscope node run', or name its own settings"
        )
    with Records.open(storage, database.get_secret_value() if database else None) as records:
        yield settings, records


def note_in_audit(settings: "NodeSettings", event: "Event") -> None:
    """Add what a person did to the audit trail.

    Raises
    ------
    MammoscopeError
        If it cannot be written.
    """
    from mammoscope.node.audit import audit_line
    from mammoscope.node.audit_trail import AuditTrail

    folder = settings.node.storage / "audit"
    try:
        AuditTrail(folder).append([audit_line(event)])
    except OSError as error:
        raise MammoscopeError(
            f"it was done, but the audit trail {folder} cannot be written ({error.strerror}); run this as the account"
            " of the node"
        ) from None


def person() -> str:
    """Name of the account that runs this command, the one behind sudo if there is one."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        return f"uid {os.getuid()}"
