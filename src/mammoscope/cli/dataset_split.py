"""`mammoscope dataset split`: by patient, into splits or folds, locked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets import SplitSummary, Stratum


def split(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    sizes: Annotated[
        str | None,
        typer.Option("--split", help="train/val/test as shares (0.7/0.15/0.15) or numbers of images (2378/400/400)."),
    ] = None,
    val: Annotated[float | None, typer.Option(help="Share of images for validation.", show_default="0.15")] = None,
    test: Annotated[float | None, typer.Option(help="Share of images for the test.", show_default="0")] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Divide all but the test images into so many folds for cross-validation; splits stay."),
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(
            help="What --split or --folds spreads evenly: any of mass,pathology,density,scanner, with commas between.",
            show_default="all of them for --split, images and boxes for --folds",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the patients.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Split again although it is split otherwise.")] = False,
) -> None:
    """Split a data set by patient, or divide it into folds, and lock that."""
    from mammoscope.datasets import SplitSizes, divide_into_folds, split_dataset, split_stratified

    shares = val is not None or test is not None
    if folds is not None:
        if shares or sizes:
            raise MammoscopeError("--folds does not go with --split, --val and --test: split first, then divide.")
        made = divide_into_folds(folder, folds, seed, strata=_strata(stratify, default=False), force=force)
        _tell("fold", {str(fold): (made.patients[fold], made.images[fold], made.boxes[fold]) for fold in made.images})
        typer.echo(f"No patient is in two folds. Locked as {made.hash[:12]}.")
        return
    if sizes is not None:
        if shares:
            raise MammoscopeError("--split does not go with --val and --test: it names all sizes.")
        strata = _strata(stratify, default=True)
        _tell_split(split_stratified(folder, SplitSizes.parse(sizes), strata, seed, force=force))
        return
    if stratify is not None:
        raise MammoscopeError("--stratify goes with --split or --folds; for shares write --split 0.85/0.15.")
    _tell_split(split_dataset(folder, 0.15 if val is None else val, test or 0.0, seed, force=force))


def _strata(text: str | None, *, default: bool) -> "tuple[Stratum, ...]":
    from mammoscope.datasets import Stratum

    if text is None:
        return tuple(Stratum) if default else ()
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in list(Stratum)]:
        raise MammoscopeError(f"--stratify {unknown[0]}: there are {', '.join(Stratum)}.")
    return tuple(Stratum(name) for name in names)


def _tell_split(done: "SplitSummary") -> None:
    _tell("split", {name: (done.patients[name], done.images[name], done.boxes[name]) for name in done.images})
    for name, over in done.missed.items():
        if over:
            word = "more" if over > 0 else "fewer"
            typer.echo(f"{name} has {abs(over)} images {word} than asked for: patients stay whole.")
    if done.left_over:
        typer.echo(f"{done.left_over} images are in no split.")
    typer.echo(f"No patient is in two splits. Locked as {done.hash[:12]}.")


def _tell(what: str, counts: dict[str, tuple[int, int, int]]) -> None:
    table = Table(what, "patients", "images", "boxes")
    for name, numbers in counts.items():
        table.add_row(name, *map(str, numbers))
    Console().print(table)
