"""`mammoscope train`: from a recipe to a run, and on after it was killed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from mammoscope.cli.torch_extra import needs_torch
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.training import Recipe, Step


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.", show_default=False)],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value instead of the recipe's (may be repeated).")
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(help="Validate on that fold and learn from the others; 'all': one run a fold, and a summary."),
    ] = None,
) -> None:
    """Train a detector as a recipe says; the same command again goes on after a kill.

    The run's folder (runs/NAME) holds the recipe, checkpoint, curves and the closing report on validation. Several
    GPUs: accelerate launch -m mammoscope train RECIPE.
    """
    needs_torch("train")
    from mammoscope.training import in_fold, load_recipe, processes

    parsed = load_recipe(recipe, tuple(changes or ()))
    if fold is not None and fold != "all":
        if not fold.isdecimal() or int(fold) < 1:
            raise MammoscopeError(f"--fold is a fold's number, counted from 1, or 'all', not {fold!r}.")
        parsed = in_fold(parsed, int(fold))
    console = Console(stderr=True)
    try:
        if fold == "all":
            _train_folds(parsed, console)
        else:
            _train_once(parsed, console)
    except KeyboardInterrupt:
        raise MammoscopeError(
            f"stopped; the same command goes on from the last checkpoint in {parsed.run_folder}"
        ) from None
    finally:
        processes.end()


def _train_once(recipe: "Recipe", console: Console) -> None:
    from mammoscope.training import processes, report_validation
    from mammoscope.training import train as run_training

    with _Display(console) as display:
        run = run_training(recipe, display)
        first = processes.is_first()
        processes.end()  # together: what is left is the first's alone
        if not first:
            return
        metrics = report_validation(run, display.prepared)
    console.print(
        f"{run.path}: validation AP50 {metrics.ap50:.3f}, precision {metrics.precision:.3f}, recall "
        f"{metrics.recall:.3f}, F1 {metrics.f1:.3f} at threshold {metrics.threshold:.3f} "
        f"({metrics.n_images} images; report in {run.path / 'validation'})",
        highlight=False,
    )
    console.print(f"next: mammoscope export {run.path} --out {recipe.name}.onnx", highlight=False)


def _train_folds(recipe: "Recipe", console: Console) -> None:
    from mammoscope.evaluation import TableFormat
    from mammoscope.training import cross_validate

    with _Display(console) as display:
        summary = cross_validate(recipe, display, display.fold_begins, display.prepared)
    if summary is not None:
        typer.echo(summary.table().written(TableFormat.TEXT), nl=False)
        console.print(f"written to {recipe.run_folder / 'folds.md'} and folds.json", highlight=False)


class _Display:
    """Progress as a bar on a terminal, as a line every hundred steps elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Display":
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def prepared(self, done: int, total: int) -> None:
        """Mammograms read and prepared."""
        self._show("reading mammograms", done, total, "")

    def fold_begins(self, fold: int, folds: int) -> None:
        """The run of a fold begins."""
        self._console.print(f"fold {fold} of {folds}", highlight=False)

    def resumed(self, iteration: int) -> None:
        """A run goes on."""
        self._console.print(f"going on after iteration {iteration}", highlight=False)

    def stepped(self, step: "Step") -> None:
        """An optimiser step."""
        left = (
            f"{int(step.seconds_left // 3600)}:{int(step.seconds_left // 60 % 60):02}:{int(step.seconds_left % 60):02}"
        )
        note = f"loss {step.loss:.3f}, {left} left"
        total = round(step.iteration / step.progress) if step.progress else step.iteration
        if self._console.is_terminal:
            self._show("training", step.iteration, total, note)
        elif step.iteration % 100 == 0:
            self._console.print(f"iteration {step.iteration} of about {total}: {note}", highlight=False)

    def validated(self, iteration: int, figures: dict[str, Any]) -> None:
        """Figures on the way."""
        shown = f"AP50 {figures['ap50']:.3f}, F1 {figures['f1']:.3f}" if figures else "no lesion found yet"
        self._console.print(f"iteration {iteration}: validation {shown}", highlight=False)

    def stopped_early(self, iteration: int, best: int) -> None:
        """Patience is over."""
        self._console.print(
            f"stopped after iteration {iteration}: no better validation since iteration {best}", highlight=False
        )

    def _show(self, name: str, done: int, total: int, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, note=note)
        self._progress.update(self._tasks[name], completed=done, total=total, note=note)
