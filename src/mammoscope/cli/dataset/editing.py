"""`mammoscope dataset filter`, `sample`, `remap`, `merge`: new data sets of old ones.

`mammoscope dataset split`: by patient, into splits or folds, locked.

`mammoscope dataset review`: how far the annotation of each image is, and who did what.
"""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mammoscope.cli.dataset.importing import placed
from mammoscope.cli.outputs import ForceDataset, Overwrite
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets import Output, SplitSummary, Stratum, WrittenDataset
    from mammoscope.datasets.review_log import ReviewEvent


_Folder = Annotated[Path, typer.Argument(help="The data set's folder.")]
_Out = Annotated[Path, typer.Option(help="The data set's folder to make.")]
_Copy = Annotated[bool, typer.Option("--copy", help="Copy images instead of hard-linking them.")]
_Symlink = Annotated[bool, typer.Option("--symlink", help="Link images symbolically; they must stay.")]
_AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def add_operations(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (filter_images, sample, remap, merge):
        app.command(command.__name__.partition("_")[0])(command)


def filter_images(
    folder: _Folder,
    where: Annotated[str, typer.Option(help="For example \"view == 'MLO' and density >= 3 and 'Mass' in labels\".")],
    out: _Out,
    copy: _Copy = False,
    symlink: _Symlink = False,
    force: ForceDataset = False,
    overwrite: Overwrite = False,
) -> None:
    """Keep the images that meet a condition on the columns of the index."""
    from mammoscope.datasets import filter_dataset

    with Progress(console=Console(stderr=True), transient=True) as progress:
        _tell(out, filter_dataset(folder, where, _output(progress, out, copy, symlink, force or overwrite)))


def sample(
    folder: _Folder,
    images: Annotated[int, typer.Option(min=1, help="How many; patients stay whole.")],
    out: _Out,
    seed: Annotated[int, typer.Option(help="Draws the patients.")] = 1,
    copy: _Copy = False,
    symlink: _Symlink = False,
    force: ForceDataset = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw whole patients such that the sample looks like the whole."""
    from mammoscope.datasets import sample_dataset

    with Progress(console=Console(stderr=True), transient=True) as progress:
        done = sample_dataset(folder, images, _output(progress, out, copy, symlink, force or overwrite), seed=seed)
    if done.images != images:
        typer.echo(f"{done.images} images instead of {images}: patients stay whole.")
    _tell(out, done)


def remap(
    folder: _Folder,
    out: _Out,
    classes: Annotated[
        list[str] | None, typer.Option("--map", help="OLD=NEW (may be repeated); several may become one.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Leave boxes of that label out (may be repeated).")] = None,
    copy: _Copy = False,
    symlink: _Symlink = False,
    force: ForceDataset = False,
    overwrite: Overwrite = False,
) -> None:
    """Rename, join or drop classes. An image whose boxes are all dropped becomes one without a lesion."""
    from mammoscope.datasets import remap_dataset

    pairs = [pair.partition("=") for pair in classes or []]
    if wrong := ["".join(pair) for pair in pairs if not pair[1]]:
        raise MammoscopeError(f"--map {wrong[0]}: write OLD=NEW.")
    if not pairs and not drop:
        raise MammoscopeError("nothing to do: say which classes change with --map OLD=NEW or --drop LABEL.")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        output = _output(progress, out, copy, symlink, force or overwrite)
        done = remap_dataset(folder, {old: new for old, _, new in pairs}, output, drop=drop or ())
    _tell(out, done)


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Two data sets' folders or more.")],
    out: _Out,
    same_patients: Annotated[
        bool,
        typer.Option("--same-patients", help="One patient's name in two data sets is one patient, not a coincidence."),
    ] = False,
    without_splits: Annotated[bool, typer.Option("--without-splits", help="Do not keep the splits.")] = False,
    copy: _Copy = False,
    symlink: _Symlink = False,
    force: ForceDataset = False,
    overwrite: Overwrite = False,
) -> None:
    """Make one data set of several; splits stay where all have some, folds go."""
    from mammoscope.datasets import merge_datasets

    with Progress(console=Console(stderr=True), transient=True) as progress:
        done = merge_datasets(
            folders, _output(progress, out, copy, symlink, force or overwrite), same_patients=same_patients,
            keep_splits=not without_splits,
        )  # fmt: skip
    _tell(out, done)


def _output(progress: Progress, out: Path, copy: bool, symlink: bool, overwrite: bool) -> "Output":
    from mammoscope.datasets import Output

    task = progress.add_task("writing", total=None)
    how = placed(copy=copy, symlink=symlink)
    return Output(out, how, overwrite, lambda n, total: progress.update(task, completed=n, total=total))


def _tell(out: Path, done: "WrittenDataset") -> None:
    typer.echo(
        f"{done.images} images of {done.patients} patients with {done.boxes} boxes written to {out}; "
        f"{done.images_without_boxes} images have no box."
    )


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
    as_json: _AsJSON = False,
) -> None:
    """Split a data set by patient, or divide it into folds, and lock that."""
    from mammoscope.datasets import SplitSizes, divide_into_folds, split_dataset, split_stratified

    shares = val is not None or test is not None
    if folds is not None:
        if shares or sizes:
            raise MammoscopeError("--folds does not go with --split, --val and --test: split first, then divide.")
        made = divide_into_folds(folder, folds, seed, strata=_strata(stratify, default=False), force=force)
        if as_json:
            _print_json(asdict(made))
            return
        _announce_split(
            "fold", {str(fold): (made.patients[fold], made.images[fold], made.boxes[fold]) for fold in made.images}
        )
        typer.echo(f"No patient is in two folds. Locked as {made.hash[:12]}.")
        return
    if sizes is not None:
        if shares:
            raise MammoscopeError("--split does not go with --val and --test: it names all sizes.")
        strata = _strata(stratify, default=True)
        _tell_split(split_stratified(folder, SplitSizes.parse(sizes), strata, seed, force=force), as_json=as_json)
        return
    if stratify is not None:
        raise MammoscopeError("--stratify goes with --split or --folds; for shares write --split 0.85/0.15.")
    _tell_split(split_dataset(folder, 0.15 if val is None else val, test or 0.0, seed, force=force), as_json=as_json)


def _strata(text: str | None, *, default: bool) -> "tuple[Stratum, ...]":
    from mammoscope.datasets import Stratum

    if text is None:
        return tuple(Stratum) if default else ()
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in list(Stratum)]:
        raise MammoscopeError(f"--stratify {unknown[0]}: there are {', '.join(Stratum)}.")
    return tuple(Stratum(name) for name in names)


def _print_json(said: dict[str, Any]) -> None:
    typer.echo(json.dumps(said, indent=1, default=str))


def _tell_split(done: "SplitSummary", *, as_json: bool) -> None:
    if as_json:
        _print_json(asdict(done))
        return
    _announce_split("split", {name: (done.patients[name], done.images[name], done.boxes[name]) for name in done.images})
    for name, over in done.missed.items():
        if over:
            word = "more" if over > 0 else "fewer"
            typer.echo(f"{name} has {abs(over)} images {word} than asked for: patients stay whole.")
    if done.left_over:
        typer.echo(f"{done.left_over} images are in no split.")
    typer.echo(f"No patient is in two splits. Locked as {done.hash[:12]}.")


def _announce_split(what: str, counts: dict[str, tuple[int, int, int]]) -> None:
    table = Table(what, "patients", "images", "boxes")
    for name, numbers in counts.items():
        table.add_row(name, *map(str, numbers))
    Console().print(table)


review_app = typer.Typer(no_args_is_help=True, help="How far the annotation of each image is, and who did what.")


@review_app.command("set")
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
    from mammoscope.datasets.query import rows_where

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


@review_app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    image: Annotated[str | None, typer.Option(help="The history of that image and its boxes.")] = None,
    as_json: _AsJSON = False,
) -> None:
    """Count images by state, or show the history of one."""
    from mammoscope.datasets import history_of, open_index

    rows = open_index(folder, ["file_name", "review"]).table
    states = dict(zip(rows.column("file_name").to_pylist(), rows.column("review").to_pylist(), strict=True))
    if image is None:
        counts = dict(sorted(Counter(states.values()).items()))
        if as_json:
            _print_json(counts)
            return
        table = Table("state", "images")
        for state, count in counts.items():
            table.add_row(state, str(count))
        Console().print(table)
        return
    if image not in states:
        raise MammoscopeError(f"{folder} has no image {image}.")
    if as_json:
        events = [asdict(event) for event in history_of(folder, image)]
        _print_json({"image": image, "state": states[image], "history": events})
        return
    typer.echo(f"{image} is {states[image]}.")
    for event in history_of(folder, image):
        typer.echo(_line(event))


def _line(event: "ReviewEvent") -> str:
    if event.state is not None:
        return f"{event.at}  {event.by}: {event.state}" + (f" ({event.note})" if event.note else "")
    places = [f"{place['label']} {place['bbox']}" for place in (event.before, event.after) if place]
    return f"{event.at}  {event.by}: box {event.box} {event.change}: {' -> '.join(places)}"
