"""`mammoscope report`: an evaluation as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from mammoscope.errors import MammoscopeError


def report(
    folder: Annotated[Path, typer.Argument(help="The folder that 'mammoscope evaluate' made, or that of a run.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    run: Annotated[Path | None, typer.Option(help="The run that the model comes from, for its curves.")] = None,
    gallery: Annotated[
        int,
        typer.Option(min=0, help="How many misses, and false alarms, to show at most; 0: no images at all."),
    ] = 12,
) -> None:
    """Write an evaluation as one HTML page with everything in it: figures, curves, errors, the worst cases, the data.

    Of a run's folder this is its evaluation on validation.
    """
    from mammoscope.evaluation import read_report, read_run, report_folder, report_html

    evaluated = read_report(report_folder(folder))
    if run is None and evaluated.folder != folder:
        run = folder
    page = report_html(evaluated, gallery, None if run is None else read_run(run))
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None
    typer.echo(f"Report: {out} ({out.stat().st_size / 1e6:.1f} MB)")
