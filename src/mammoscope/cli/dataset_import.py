"""`mammoscope dataset import COLLECTION DIR`: public collections as their owners distribute them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

_COLLECTIONS = {
    "auto": "Import the collection that the folder holds, whichever it is.",
    "cbis-ddsm": "CBIS-DDSM: DICOM tree of TCIA and its four case tables; boxes from the masks.",
    "inbreast": "INbreast: DICOM, XML contours, INbreast.xls or .csv.",
    "vindr-mammo": "VinDr-Mammo: DICOM, finding_annotations.csv, breast-level_annotations.csv.",
    "mini-mias": "mini-MIAS: PGM and Info.txt.",
    "cdd-cesm": "CDD-CESM: pictures, VIA contours, the sheet of readings.",
    "ddsm": "DDSM: .ics, .OVERLAY, LJPEG or pictures converted from it.",
    "dmid": "DMID: TIFF, ROI masks, Metadata.xlsx or Info.txt.",
    "cmmd": "CMMD: DICOM tree of TCIA and its clinical sheet; labels of breasts, no boxes.",
    "embed": "EMBED Open Data: tables and DICOM.",
    "dicom": "A hospital's own: mammograms with CAD SR, TID 1500, SEG or GSPS objects about them.",
}


def add_collections(app: typer.Typer) -> None:
    """Add a command for each collection."""
    for name, help_text in _COLLECTIONS.items():
        app.command(name, help=help_text)(_command(name))


def _command(name: str) -> Callable[..., None]:
    def import_collection(
        folder: Annotated[Path, typer.Argument(help="The collection's folder, unpacked.", metavar="DIR")],
        out: Annotated[Path, typer.Option(help="The data set's folder to make.")],
        only: Annotated[
            str | None,
            typer.Option(
                help="A part: masses, calcifications (cbis-ddsm); subtracted, both (cdd-cesm); c-view, both (embed)."
            ),
        ] = None,
        partial: Annotated[
            bool, typer.Option("--partial", help="Import what is there although files are missing or damaged.")
        ] = False,
        each_image_a_patient: Annotated[
            bool,
            typer.Option("--each-image-a-patient", help="Where no patient is known, take each image for one."),
        ] = False,
        copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of hard-linking them.")] = False,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set that is there.")] = False,
    ) -> None:
        from mammoscope.datasets import ImagesAs, collections

        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("reading", total=None)
            done = collections.import_collection(
                name, folder, out, only=only, partial=partial, each_image_a_patient=each_image_a_patient,
                images_as=ImagesAs.COPIED if copy else ImagesAs.LINKED, overwrite=overwrite,
                progress=lambda doing, n, total: progress.update(task, description=doing, completed=n, total=total),
            )  # fmt: skip
        written, title = done.written, done.collection.title
        typer.echo(
            f"{title}: {written.images} images of {written.patients} patients with {written.boxes} boxes; "
            f"{written.images_without_boxes} images have no box."
        )
        for note in done.notes:
            typer.echo(f"Note: {note}")
        if written.clipped:
            typer.echo(f"Note: {written.clipped} boxes reached over the image's edge and were cut there.")
        if done.collection.licence:
            typer.echo(f"Licence: {done.collection.licence}. Cite: {done.collection.citation}")
        typer.echo(f"Data set written to {out}; look at it with: mammoscope dataset show {out}")

    return import_collection
