"""`mammoscope compare`: evaluated models in one table, and whether their differences are more than chance."""

from pathlib import Path
from typing import Annotated

import typer

from mammoscope.errors import MammoscopeError


def compare(
    reports: Annotated[
        list[Path], typer.Argument(help="Folders that 'mammoscope evaluate' made; the first is compared with.")
    ],
    form: Annotated[str, typer.Option("--format", help="text, markdown, latex or html.")] = "text",
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples for the differences.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Draws the resamples.")] = 0,
) -> None:
    """Compare evaluated models: precision, recall, F1, AP50 with intervals, and paired differences to the first.

    Exit code 1 says that some were evaluated on other images or another truth than the first: those have no difference.
    """
    from mammoscope.evaluation import TableFormat, differences_table, figures_table, read_report, same_truth

    if form not in list(TableFormat):
        raise MammoscopeError(f"--format is text, markdown, latex or html, not {form!r}.")
    if len(reports) < 2:
        raise MammoscopeError("give at least two reports' folders to compare.")
    read = [read_report(folder) for folder in reports]
    first = read[0]
    others = []
    for report in read[1:]:
        if report.metrics["dataset_fingerprint"] != first.metrics["dataset_fingerprint"]:
            typer.echo(f"{report.folder} was evaluated on another data set or split than {first.folder}.", err=True)
        elif not same_truth(first.results, report.results):
            typer.echo(f"{report.folder} counts other boxes as truth than {first.folder}.", err=True)
        else:
            others.append(report)
    alike = [first, *others]
    typer.echo(figures_table(read).written(TableFormat(form)))
    if others:
        typer.echo(differences_table(alike, resamples=resamples, seed=seed).written(TableFormat(form)), nl=False)
    if len(alike) < len(read):
        typer.echo(
            "Figures on different images do not say which model is better; no difference is given there.", err=True
        )
        raise typer.Exit(1)
