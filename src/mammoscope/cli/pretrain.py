"""`mammoscope pretrain`: a backbone's first weights from patches, where there are none of ImageNet."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mammoscope.cli.torch_extra import needs_torch
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.training import PatchFigures


def pretrain(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.", show_default=False)],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value instead of the recipe's (may be repeated).")
    ] = None,
) -> None:
    """Pretrain a ResNet on patches with and without a mass; the same command again goes on after a kill.

    The run's folder (runs/NAME) gets the weights, which a detector's recipe names in detector.weights.
    """
    needs_torch("pretrain")
    from mammoscope.training import load_pretrain_recipe
    from mammoscope.training import pretrain as run_pretraining

    parsed = load_pretrain_recipe(recipe, tuple(changes or ()))
    console = Console(stderr=True)
    try:
        done = run_pretraining(parsed, _Lines(console))
    except KeyboardInterrupt:
        raise MammoscopeError(
            f"stopped; the same command goes on from the last checkpoint in {parsed.run_folder}"
        ) from None
    figures = done.figures
    interval = "" if figures.auc_interval is None else " ({:.3f} to {:.3f})".format(*figures.auc_interval)
    console.print(
        f"{done.weights}: AUC {figures.auc:.3f}{interval}, balanced accuracy {figures.balanced_accuracy:.3f} on "
        f"{figures.masses} patches with a mass and {figures.background} without, of validation's patients",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"next: mammoscope train RECIPE --set detector.weights={done.weights}", highlight=False)


class _Lines:
    """Progress, a line at a time."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def prepared(self, done: int, total: int) -> None:
        """Mammograms read and prepared."""
        if done == total:
            self._console.print(f"{total} mammograms prepared", highlight=False)

    def resumed(self, iteration: int) -> None:
        """A run goes on."""
        self._console.print(f"going on after iteration {iteration}", highlight=False)

    def stepped(self, iteration: int, progress: float, loss: float, minutes_left: float) -> None:
        """An optimiser step."""
        if iteration % 50 == 0:
            self._console.print(
                f"iteration {iteration}, {progress:.0%}: loss {loss:.3f}, {minutes_left:.1f} minutes left",
                highlight=False,
            )

    def validated(self, iteration: int, figures: "PatchFigures") -> None:
        """Figures on the way."""
        self._console.print(f"iteration {iteration}: validation AUC {figures.auc:.3f}", highlight=False)
