"""`mammoscope report`: an evaluation as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from mammoscope.errors import MammoscopeError


def report(
    folder: Annotated[Path, typer.Argument(help="The folder that 'mammoscope evaluate' made.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    gallery: Annotated[int, typer.Option(min=0, help="How many misses, and false alarms, to show at most.")] = 12,
) -> None:
    """Write an evaluation as one HTML page with everything in it: figures, curves, errors, the worst cases."""
    from mammoscope.evaluation import read_report, report_html

    page = report_html(read_report(folder), gallery)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None
    typer.echo(f"Report: {out} ({out.stat().st_size / 1e6:.1f} MB)")
