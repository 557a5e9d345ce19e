"""`mammoscope dataset`: import a collection, split it by patient, show what is in it."""

from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mammoscope.cli.dataset_import import add_collections
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets import AnnotatedDataset, ImportSummary

app = typer.Typer(no_args_is_help=True, help="Annotated collections of mammograms: import, split, show.")
import_app = typer.Typer(no_args_is_help=True, help="Make a data set's folder from a collection.")
app.add_typer(import_app, name="import")
add_collections(import_app)


@import_app.command("coco")
def import_coco(
    annotations: Annotated[Path, typer.Option(help="The COCO file.")],
    images: Annotated[Path, typer.Option(help="Folder of its images.")],
    out: Annotated[Path, typer.Option(help="The data set's folder to make.")],
    native_sizes: Annotated[
        Path | None, typer.Option(help="CSV of native sizes: un-stretch images that were forced into another shape.")
    ] = None,
    patient_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression on file names with the group 'patient' (also 'laterality', 'view')."),
    ] = None,
    cases: Annotated[
        list[Path] | None,
        typer.Option(
            help="CBIS-DDSM's case table (may be repeated): density, pathology, ... become attributes of images."
        ),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of hard-linking them.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set that is there.")] = False,
) -> None:
    """Import COCO annotations with their images."""
    from mammoscope import datasets

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("importing", total=None)
        summary = datasets.import_coco(
            annotations, images, out, native_sizes=native_sizes, patient_pattern=patient_pattern,
            case_tables=cases or (), copy=copy,
            overwrite=overwrite, progress=lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
    if cases:
        typer.echo(f"The case tables say something of {summary.with_case} of {summary.images} images.")
    for line in _told(summary):
        typer.echo(line)
    typer.echo(f"Data set written to {out}; split it with: mammoscope dataset split {out} --val 0.15 --seed 1")


def _told(summary: "ImportSummary") -> list[str]:
    crowds = f" and {summary.crowds} crowd regions" if summary.crowds else ""
    lines = [
        f"{summary.images} images of {summary.patients} patients with {summary.boxes} boxes{crowds}; "
        f"{summary.images_without_boxes} images have no box."
    ]
    if summary.unstretched:
        lines.append(f"{summary.unstretched} images un-stretched to their native aspect and written as PNG.")
    if summary.median_aspects:
        lines.append(
            f"{summary.median_aspects} of them have no native size: they got the median aspect of the others, "
            f"{summary.median_aspect:.4f} columns over rows (noted per image in annotations.json)."
        )
    if summary.clipped:
        lines.append(f"{summary.clipped} boxes reached over the image's edge and were cut there.")
    if summary.masks_dropped:
        lines.append(f"{summary.masks_dropped} run-length masks were left out: only boxes and polygons are resized.")
    return lines


@app.command()
def split(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    val: Annotated[float | None, typer.Option(help="Share of images for validation.", show_default="0.15")] = None,
    test: Annotated[float | None, typer.Option(help="Share of images for the test.", show_default="0")] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Divide all but the test images into so many folds for cross-validation; splits stay."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the patients.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Split again although it is split otherwise.")] = False,
) -> None:
    """Split a data set by patient, or divide it into folds, and lock that."""
    from mammoscope.datasets import divide_into_folds, split_dataset

    if folds is None:
        split = split_dataset(folder, 0.15 if val is None else val, test or 0.0, seed, force=force)
        _tell("split", {name: (split.patients[name], split.images[name], split.boxes[name]) for name in split.images})
        typer.echo(f"No patient is in two splits. Locked as {split.hash[:12]}.")
        return
    if val is not None or test is not None:
        raise MammoscopeError("--folds does not go with --val and --test: split first, then divide what is not test.")
    made = divide_into_folds(folder, folds, seed, force=force)
    _tell("fold", {str(fold): (made.patients[fold], made.images[fold], made.boxes[fold]) for fold in made.images})
    typer.echo(f"No patient is in two folds. Locked as {made.hash[:12]}.")


def _tell(what: str, counts: dict[str, tuple[int, int, int]]) -> None:
    table = Table(what, "patients", "images", "boxes")
    for name, numbers in counts.items():
        table.add_row(name, *map(str, numbers))
    Console().print(table)


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="The data set's folder.")]) -> None:
    """Show what is in a data set."""
    from mammoscope.datasets import load_dataset

    dataset = load_dataset(folder)
    table = Table("", dataset.name, title="Data set")
    for name, value in _facts(dataset):
        table.add_row(name, value)
    Console().print(table)


def _facts(dataset: "AnnotatedDataset") -> list[tuple[str, str]]:
    shares = sorted(100 * (box.area / (i.rows * i.columns)) ** 0.5 for i in dataset for box in i.boxes)
    sizes = [(image.rows, image.columns) for image in dataset]
    of_size = f"{shares[0]:.1f} to {shares[-1]:.1f} %, median {median(shares):.1f} %" if shares else "no boxes"
    return [
        ("images", str(len(dataset))),
        ("patients", str(len(dataset.patients))),
        ("boxes", str(dataset.n_boxes)),
        ("images without a box", str(sum(not image.boxes for image in dataset))),
        ("labels", _counted([label for image in dataset for label in image.labels])),
        ("laterality", _counted([image.laterality or "unknown" for image in dataset])),
        ("view", _counted([image.view or "unknown" for image in dataset])),
        ("split", _counted([image.split or "not split" for image in dataset])),
        ("fold", _counted([str(image.fold or "none") for image in dataset])),
        ("rows", f"{min(s[0] for s in sizes)} to {max(s[0] for s in sizes)}"),
        ("columns", f"{min(s[1] for s in sizes)} to {max(s[1] for s in sizes)}"),
        ("box side (root of the share of the image)", of_size),
    ]


def _counted(values: list[str]) -> str:
    return ", ".join(f"{value} {count}" for value, count in sorted(Counter(map(str, values)).items())) or "none"
