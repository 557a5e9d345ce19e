"""`mammoscope dataset review`: how far the annotation of each image is, and who did what."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets.review_state import ReviewEvent

app = typer.Typer(no_args_is_help=True, help="How far the annotation of each image is, and who did what.")


@app.command("set")
def set_state(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    state: Annotated[str, typer.Option(help="unannotated, annotated, validated or disputed.")],
    by: Annotated[str, typer.Option(help="Who says so.")],
    image: Annotated[
        list[str] | None, typer.Option(help="An image by its name within images/ (may be repeated).")
    ] = None,
    where: Annotated[str | None, typer.Option(help="All images that meet a condition, as for filter.")] = None,
    note: Annotated[str | None, typer.Option(help="A word about it, kept in the log.")] = None,
) -> None:
    """Give images a state. It counts for the boxes that they have now."""
    from mammoscope.datasets import ReviewState, open_index, set_review
    from mammoscope.datasets.where import rows_where

    if state not in list(ReviewState):
        raise MammoscopeError(f"--state {state}: there are {', '.join(ReviewState)}.")
    if (image is None) == (where is None):
        raise MammoscopeError("say which images, with --image or with --where.")
    names = list(image or ())
    if where is not None:
        table = open_index(folder).table
        names = table.filter(rows_where(table, where)).column("file_name").to_pylist()
        if not names:
            raise MammoscopeError(f"no image of {folder} meets the condition {where!r}.")
    changed = set_review(folder, names, ReviewState(state), by, note)
    typer.echo(f"{len(changed)} images are {state} by {by.strip()}.")


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    image: Annotated[str | None, typer.Option(help="The history of that image and its boxes.")] = None,
) -> None:
    """Count images by state, or show the history of one."""
    from mammoscope.datasets import history_of, open_index

    rows = open_index(folder, ["file_name", "review"]).table
    states = dict(zip(rows.column("file_name").to_pylist(), rows.column("review").to_pylist(), strict=True))
    if image is None:
        table = Table("state", "images")
        for state, count in sorted(Counter(states.values()).items()):
            table.add_row(state, str(count))
        Console().print(table)
        return
    if image not in states:
        raise MammoscopeError(f"{folder} has no image {image}.")
    typer.echo(f"{image} is {states[image]}.")
    for event in history_of(folder, image):
        typer.echo(_line(event))


def _line(event: "ReviewEvent") -> str:
    if event.state is not None:
        return f"{event.at}  {event.by}: {event.state}" + (f" ({event.note})" if event.note else "")
    places = [f"{place['label']} {place['bbox']}" for place in (event.before, event.after) if place]
    return f"{event.at}  {event.by}: box {event.box} {event.change}: {' -> '.join(places)}"
