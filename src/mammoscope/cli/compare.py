"""`mammoscope compare`: evaluated models in one table, and whether their differences are more than chance."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.evaluation import Report


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(help="Folders of 'mammoscope evaluate' or runs, or bundles; the first is compared with."),
    ],
    dataset: Annotated[Path | None, typer.Option(help="The data set to evaluate bundles on.")] = None,
    split: Annotated[str | None, typer.Option(help="Only that split of it.")] = None,
    form: Annotated[str, typer.Option("--format", help="text, markdown, latex or html.")] = "text",
    paper: Annotated[bool, typer.Option(help="With the paper's own figures, of other data, for scale.")] = True,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples for the differences.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Draws the resamples.")] = 0,
) -> None:
    """Compare models: precision, recall, F1, AP50 with intervals, and paired differences to the first.

    A run stands with its figures on validation. A bundle is evaluated first, which takes a while.
    Exit code 1 says that some were evaluated on other images or another truth than the first: those have no difference.
    """
    from mammoscope.evaluation import TableFormat, differences_table, figures_table, same_truth

    if form not in list(TableFormat):
        raise MammoscopeError(f"--format is text, markdown, latex or html, not {form!r}.")
    with TemporaryDirectory() as scratch:
        read = [_report(model, dataset, split, Path(scratch) / str(number)) for number, model in enumerate(models)]
    first = read[0]
    others = []
    for report in read[1:]:
        if report.metrics["dataset_fingerprint"] != first.metrics["dataset_fingerprint"]:
            typer.echo(f"{report.folder} was evaluated on another data set or split than {first.folder}.", err=True)
        elif not same_truth(first.results, report.results):
            typer.echo(f"{report.folder} counts other boxes as truth than {first.folder}.", err=True)
        else:
            others.append(report)
    tables = [figures_table(read, paper=paper)]
    if others:
        tables.append(differences_table([first, *others], resamples=resamples, seed=seed))
    typer.echo("\n".join(table.written(TableFormat(form)) for table in tables), nl=False)
    if len(others) + 1 < len(read):
        typer.echo(
            "Figures on different images do not say which model is better; no difference is given there.", err=True
        )
        raise typer.Exit(1)


def _report(model: Path, dataset: Path | None, split: str | None, scratch: Path) -> "Report":
    """A report, that of a run on validation, or that of a bundle, made now."""
    from dataclasses import replace

    from mammoscope.evaluation import read_report, report_folder

    if not model.is_file():
        return read_report(report_folder(model))
    if dataset is None:
        raise MammoscopeError(f"to compare the bundle {model}, give --dataset, the data set to evaluate it on.")
    from mammoscope.cli.evaluating import EvaluationOptions, evaluate_into
    from mammoscope.datasets import load_dataset
    from mammoscope.inference import Detector

    evaluate_into(scratch, Detector(model), load_dataset(dataset, split), EvaluationOptions(groups=()))
    return replace(read_report(scratch), folder=model)
