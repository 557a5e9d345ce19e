"""`mammoscope dataset`: its commands, and the import of COCO files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from mammoscope.cli.dataset.archive import deidentify, pull
from mammoscope.cli.dataset.editing import add_operations, review_app, split
from mammoscope.cli.dataset.importing import (
    UNMARKED,
    AsJSON,
    add_collections,
    add_formats,
    export,
    print_import_as_json,
    print_marks,
    silence_of,
)
from mammoscope.cli.dataset.inspecting import audit, card, show, write_index
from mammoscope.cli.outputs import ForceDataset, Overwrite

if TYPE_CHECKING:
    from mammoscope.datasets import ImportSummary

app = typer.Typer(no_args_is_help=True, help="Annotated collections of mammograms: import, split, show, change.")
import_app = typer.Typer(no_args_is_help=True, help="Make a data set's folder from a collection.")
app.add_typer(import_app, name="import")
add_collections(import_app)
add_formats(import_app)
app.command()(pull)
app.command()(deidentify)
app.command()(split)
app.command()(show)
app.command("index")(write_index)
app.command()(export)
add_operations(app)
app.command()(audit)
app.command()(card)
app.add_typer(review_app, name="review")


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
    name: Annotated[str | None, typer.Option(help="What the collection is called.")] = None,
    licence: Annotated[str | None, typer.Option(help="Under which licence it may be used.")] = None,
    citation: Annotated[str | None, typer.Option(help="What to cite.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of hard-linking them.")] = False,
    force: ForceDataset = False,
    overwrite: Overwrite = False,
    unmarked: Annotated[str | None, UNMARKED] = None,
    crowds_are_lesions: Annotated[
        bool, typer.Option("--crowds-are-lesions", help="Take iscrowd regions for lesions: CVAT's masks and ellipses.")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Import COCO annotations with their images."""
    from mammoscope import datasets

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("importing", total=None)
        summary = datasets.import_coco(
            annotations, images, out, native_sizes=native_sizes, patient_pattern=patient_pattern,
            case_tables=cases or (), name=name, licence=licence, citation=citation, copy=copy,
            silence=silence_of(unmarked), crowds_are_lesions=crowds_are_lesions,
            overwrite=force or overwrite,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
    if as_json:
        print_import_as_json(out, summary, summary.notes, with_case=summary.with_case)
        return
    if cases:
        typer.echo(f"The case tables say something of {summary.with_case} of {summary.images} images.")
    first, *others = _told(summary)
    typer.echo(first)
    print_marks(summary.marks)
    for line in (*(f"Note: {note}" for note in summary.notes), *others):
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
