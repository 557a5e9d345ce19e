"""`mammoscope dataset filter`, `sample`, `remap`, `merge`: new data sets of old ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from mammoscope.cli.dataset_formats import placed
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets import Output, WrittenDataset

_Folder = Annotated[Path, typer.Argument(help="The data set's folder.")]
_Out = Annotated[Path, typer.Option(help="The data set's folder to make.")]
_Copy = Annotated[bool, typer.Option("--copy", help="Copy images instead of hard-linking them.")]
_Symlink = Annotated[bool, typer.Option("--symlink", help="Link images symbolically; they must stay.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a data set that is there.")]


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
    overwrite: _Overwrite = False,
) -> None:
    """Keep the images that meet a condition on the columns of the index."""
    from mammoscope.datasets import filter_dataset

    with Progress(console=Console(stderr=True), transient=True) as progress:
        _tell(out, filter_dataset(folder, where, _output(progress, out, copy, symlink, overwrite)))


def sample(
    folder: _Folder,
    images: Annotated[int, typer.Option(min=1, help="How many; patients stay whole.")],
    out: _Out,
    seed: Annotated[int, typer.Option(help="Draws the patients.")] = 1,
    copy: _Copy = False,
    symlink: _Symlink = False,
    overwrite: _Overwrite = False,
) -> None:
    """Draw whole patients such that the sample looks like the whole."""
    from mammoscope.datasets import sample_dataset

    with Progress(console=Console(stderr=True), transient=True) as progress:
        done = sample_dataset(folder, images, _output(progress, out, copy, symlink, overwrite), seed=seed)
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
    overwrite: _Overwrite = False,
) -> None:
    """Rename, join or drop classes. An image whose boxes are all dropped becomes one without a lesion."""
    from mammoscope.datasets import remap_dataset

    pairs = [pair.partition("=") for pair in classes or []]
    if wrong := ["".join(pair) for pair in pairs if not pair[1]]:
        raise MammoscopeError(f"--map {wrong[0]}: write OLD=NEW.")
    if not pairs and not drop:
        raise MammoscopeError("nothing to do: say which classes change with --map OLD=NEW or --drop LABEL.")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        output = _output(progress, out, copy, symlink, overwrite)
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
    overwrite: _Overwrite = False,
) -> None:
    """Make one data set of several; splits stay where all have some, folds go."""
    from mammoscope.datasets import merge_datasets

    with Progress(console=Console(stderr=True), transient=True) as progress:
        done = merge_datasets(
            folders, _output(progress, out, copy, symlink, overwrite), same_patients=same_patients,
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
