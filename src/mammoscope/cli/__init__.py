"""The command line: one thin command per job."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mammoscope import __version__
from mammoscope.cli import (
    calibrate,
    compare,
    dataset,
    demo,
    detect,
    evaluate,
    explain,
    export,
    import_detectron2,
    model_card,
    node,
    phantom,
    pretrain,
    report,
    train,
)
from mammoscope.errors import MammoscopeError

app = typer.Typer(
    name="mammoscope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(dataset.app, name="dataset")
app.command()(calibrate.calibrate)
app.command()(compare.compare)
app.command()(demo.demo)
app.command()(detect.detect)
app.command()(evaluate.evaluate)
app.command()(explain.explain)
app.command()(export.export)
app.command("import-checkpoint")(import_detectron2.import_checkpoint)
app.command("import-detectron2")(import_detectron2.import_checkpoint)
app.command("model-card")(model_card.model_card)
app.add_typer(node.app, name="node")
app.command("phantom")(phantom.make_phantom)
app.command()(pretrain.pretrain)
app.command()(report.report)
app.command()(train.train)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mammoscope {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find masses in mammograms and put them where a radiologist reads. Research use only; not a medical device."""


def main() -> None:
    """Run the command line; errors meant for the user become one sentence and exit code 2."""
    try:
        app()
    except MammoscopeError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
