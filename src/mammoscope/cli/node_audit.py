"""``mammoscope node audit``: the audit trail, read and checked."""

import json
from typing import Annotated

import typer

from mammoscope.cli.beside_node import AsJSON, Config
from mammoscope.errors import MammoscopeError


def audit(
    config: Config,
    verify: Annotated[bool, typer.Option("--verify", help="Check that no line was changed or cut out.")] = False,
    study: Annotated[str | None, typer.Option(help="Print only the lines of this study.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Print the audit trail, or check it; exit code 1 if a line was changed or cut out."""
    from mammoscope.settings import load_node_settings

    folder = load_node_settings(config).node.storage / "audit"

    from mammoscope.node.audit_trail import AuditTrail, Position

    if not folder.is_dir():
        raise MammoscopeError(f"there is no audit trail in {folder}: no node has run with the settings {config} yet")
    trail = AuditTrail(folder)
    if verify:
        checked = trail.verify()
        if as_json:
            typer.echo(json.dumps({"lines": checked.lines, "problems": checked.problems}, indent=2))
        elif checked.problems:
            for problem in checked.problems:
                typer.echo(f"wrong: {problem}")
        else:
            typer.echo(f"{checked.lines} lines, none changed or cut out.")
        if checked.problems:
            raise typer.Exit(1)
        return
    for line, _ in trail.lines_after(Position("", 0), limit=-1):
        if study is None or _is_of(study, line):
            typer.echo(line.decode("utf-8", errors="replace"))


def _is_of(study: str, line: bytes) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("study") == study
