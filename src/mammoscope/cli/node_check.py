"""``mammoscope node check``: tries everything that a node needs and everyone it speaks to."""

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.markup import escape

from mammoscope.cli.beside_node import AsJSON, Config


def check(config: Config, as_json: AsJSON = False) -> None:
    """Try disk, database, model, certificate and every peer; exit code 1 if anything is wrong.

    Nothing is sent that a peer would keep. It may run beside the node.
    """
    from mammoscope.settings import load_node_settings

    settings = load_node_settings(config)

    from mammoscope.node.checks import check_node
    from mammoscope.node.log import configure_no_logging

    configure_no_logging()
    console = Console(highlight=False, soft_wrap=True)
    outcomes = []
    for outcome in check_node(settings):
        outcomes.append(outcome)
        if not as_json:
            mark = "[green]ok[/]   " if outcome.well else "[bold red]wrong[/]"
            console.print(f"{mark} {escape(outcome.part)}: {escape(outcome.words)}")
    wrong = sum(not outcome.well for outcome in outcomes)
    if as_json:
        typer.echo(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        console.print("All is well." if wrong == 0 else f"{wrong} of {len(outcomes)} wrong.")
    if wrong:
        raise typer.Exit(1)
