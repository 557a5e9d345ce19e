"""The command line: one thin command per job."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mammoscope import __version__
from mammoscope.cli import bundle, dataset, node
from mammoscope.cli.bundle import import_onnx
from mammoscope.cli.demo import demo, make_phantom
from mammoscope.cli.detect import detect
from mammoscope.cli.evaluate import calibrate, compare, evaluate, fit_views, model_card, report
from mammoscope.cli.explain import explain
from mammoscope.cli.review import readers, review
from mammoscope.cli.train import export, import_checkpoint, pretrain, train
from mammoscope.cli.tune import tune
from mammoscope.errors import MammoscopeError
from mammoscope.untrusted_text import lines

app = typer.Typer(
    name="mammoscope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(bundle.app, name="bundle")
app.add_typer(dataset.app, name="dataset")
app.command()(calibrate)
app.command()(fit_views)
app.command()(compare)
app.command()(demo)
app.command()(detect)
app.command()(evaluate)
app.command()(explain)
app.command()(export)
app.command("import-checkpoint")(import_checkpoint)
app.command("import-onnx")(import_onnx)
app.command("import-detectron2")(import_checkpoint)
app.command("model-card")(model_card)
app.add_typer(node.app, name="node")
app.command("phantom")(make_phantom)
app.command()(pretrain)
app.add_typer(readers, name="readers")
app.command()(report)
app.command()(review)
app.command()(train)
app.command()(tune)


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


def refuse_windows(platform: str) -> None:
    """Say at once that nothing runs on Windows, in the stead of what its first missing part would say.

    Raises
    ------
    MammoscopeError
        On Windows.
    """
    if platform == "win32":
        raise MammoscopeError(
            "Mammoscope does not run on Windows: use Linux, the Windows Subsystem for Linux (WSL 2), or the container"
            " (docs/node.md, 'What it runs on')"
        )


def main() -> None:
    """Run the command line; errors meant for the user become one sentence and exit code 2."""
    try:
        refuse_windows(sys.platform)
        app()
    except MammoscopeError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(lines(str(error)))}", highlight=False, soft_wrap=True)
        sys.exit(2)
