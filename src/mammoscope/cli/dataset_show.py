"""`mammoscope dataset show` and `index`: what is in a data set, from its index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    import pyarrow

_MOST_VALUES = 12
_HASHES = ("none", "files", "pixels")
_COUNTED = ("laterality", "view", "density", "pathology", "scanner", "split", "fold", "review")
_COLUMNS = [*_COUNTED, "patient", "rows", "columns", "n_boxes", "labels", "box_sides"]


def show(folder: Annotated[Path, typer.Argument(help="The data set's folder.")]) -> None:
    """Show what is in a data set."""
    from mammoscope.datasets import load_dataset, read_index
    from mammoscope.datasets.index import check_locks, open_index

    if read_index(folder, []) is None:
        load_dataset(folder)  # which says what is wrong with it
    index = open_index(folder, _COLUMNS)
    check_locks(index)
    table = Table("", folder.resolve().name, title="Data set")
    for name, value in _facts(index.table):
        table.add_row(name, value)
    Console().print(table)


def write(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    hashes: Annotated[
        str, typer.Option(help="Which hashes to add: none, files, or pixels (both; decodes every image).")
    ] = "none",
    processes: Annotated[int | None, typer.Option(min=1, help="How many decode at once; all cores by default.")] = None,
) -> None:
    """Write the index, images.parquet, anew."""
    from mammoscope.datasets import Hashes, write_index

    if hashes not in _HASHES:
        raise MammoscopeError(f"--hashes {hashes}: there are {', '.join(_HASHES)}.")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("hashing", total=None)
        index = write_index(
            folder, hashes=Hashes(hashes), processes=processes,
            progress=lambda n, total: progress.update(task, completed=n, total=total),
        )  # fmt: skip
    lacking = index.table.column("pixel_sha256").null_count if hashes == "pixels" else 0
    typer.echo(f"{index.table.num_rows} images in {folder / 'images.parquet'}.")
    if lacking:
        typer.echo(f"The pixels of {lacking} images cannot be read.")
        raise typer.Exit(1)


def _facts(table: "pyarrow.Table") -> list[tuple[str, str]]:
    import pyarrow.compute as pc

    sides = pc.list_flatten(table.column("box_sides"))
    of_size = "no boxes"
    if len(sides):
        smallest, largest = (value.as_py() for value in pc.min_max(sides).values())
        of_size = f"{smallest:.1f} to {largest:.1f} %, median {pc.quantile(sides, 0.5)[0].as_py():.1f} %"
    facts = [
        ("images", str(table.num_rows)),
        ("patients", str(pc.count_distinct(table.column("patient")).as_py())),
        ("boxes", str(pc.sum(table.column("n_boxes")).as_py())),
        ("images without a box", str(pc.sum(pc.equal(table.column("n_boxes"), 0)).as_py())),
        ("labels", _counted(pc.list_flatten(table.column("labels")))),
    ]
    silent = {"split": "not split", "fold": "none"}
    facts += [(name, _counted(table.column(name), silent.get(name, "unknown"))) for name in _COUNTED]
    for side in ("rows", "columns"):
        least, most = (value.as_py() for value in pc.min_max(table.column(side)).values())
        facts.append((side, f"{least} to {most}"))
    return [*facts, ("box side (root of the share of the image)", of_size)]


def _counted(values: Any, silent: str = "unknown") -> str:
    """Values with their counts, by value; of many, the most frequent."""
    counts = [(entry["values"], entry["counts"]) for entry in values.value_counts().to_pylist()]
    named = sorted((silent if value is None else str(value), count) for value, count in counts)
    if len(named) > _MOST_VALUES:
        often = sorted(named, key=lambda entry: -entry[1])[:_MOST_VALUES]
        return ", ".join(f"{value} {count}" for value, count in often) + f", and {len(named) - _MOST_VALUES} others"
    return ", ".join(f"{value} {count}" for value, count in named) or "none"
