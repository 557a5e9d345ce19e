"""`mammoscope tune`: a search over a recipe's numbers."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mammoscope.cli.train import INTERRUPTED, RECIPE, needs_torch

if TYPE_CHECKING:
    from mammoscope.training import Step


def tune(
    recipe: Annotated[Path, RECIPE],
    over: Annotated[
        list[str],
        typer.Option(
            help="What to search: section.key=LOW:HIGH, LOW:HIGH:log, or ONE,ANOTHER (may be repeated).",
            show_default=False,
        ),
    ],
    minutes: Annotated[float, typer.Option(min=0.01, help="Budget of the whole search.")],
    trials: Annotated[int, typer.Option(min=2, help="Runs planned; each has its share of the minutes.")] = 12,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value instead of the recipe's (may be repeated).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Search a recipe's numbers for the best figure on validation, within a budget; again after a kill: resumes.

    The test split is never read. The folder runs/NAME-tune holds every trial, and tune.json what came of them.
    """
    needs_torch("tune")
    from mammoscope.evaluation import TableFormat
    from mammoscope.training import Range
    from mammoscope.training import tune as search
    from mammoscope.training.recipe import recipe_file

    console = Console(stderr=True)
    ranges = [Range.parse(text) for text in over]
    file = recipe_file(recipe)

    def watcher(trial: int) -> _TrialLines:
        console.print(f"trial {trial + 1} of {trials}", highlight=False)
        return _TrialLines(console)

    try:
        tuning = search(file, ranges, minutes=minutes, trials=trials, changes=tuple(changes or ()), watcher=watcher)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on with the next trial", highlight=False)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(tuning.to_json(), indent=2))
    else:
        typer.echo(tuning.table().written(TableFormat.TEXT), nl=False)
    if tuning.best is not None:
        chosen = " ".join(f"--set {shlex.quote(f'{key}={value}')}" for key, value in tuning.best.values.items())
        console.print(
            f"best of {len(tuning.trials)} on validation, and so a little too good: trial {tuning.best.number + 1}\n"
            f"next: mammoscope train {recipe} {chosen}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


class _TrialLines:
    """Progress of a trial, a line each validation."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def noted(self, told: str) -> None:
        """Something its user should know."""
        self._console.print(f"  {told}", highlight=False, soft_wrap=True)

    def prepared(self, done: int, total: int) -> None:
        """Mammograms read and prepared."""

    def resumed(self, iteration: int) -> None:
        """A trial goes on."""

    def stepped(self, step: "Step") -> None:
        """An optimiser step."""

    def validated(self, iteration: int, figures: dict[str, Any]) -> None:
        """Figures on the way."""
        shown = f"AP50 {figures['ap50']:.3f}" if figures else "no lesion found yet"
        self._console.print(f"  iteration {iteration}: validation {shown}", highlight=False)

    def stopped_early(self, iteration: int, best: int) -> None:
        """Patience is over."""
