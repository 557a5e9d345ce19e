"""`mammoscope dataset import COLLECTION DIR`: public collections as their owners distribute them.

`mammoscope dataset import FORMAT` and `dataset export`: annotations in the formats of other programs.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from mammoscope.cli.outputs import ForceDataset, Overwrite
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets import ImagesAs, ImportSummary, WrittenDataset
    from mammoscope.datasets.image_marks import MarkCounts, Silence


AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
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
    "rsna-2022": "RSNA 2022: train.csv, DICOM or pictures; labels of breasts, no boxes.",
    "csaw-cc": "CSAW-CC: its table, DICOM, masks of tumours.",
    "dicom": "A hospital's own: mammograms with CAD SR, TID 1500, SEG or GSPS objects about them.",
}


def add_collections(app: typer.Typer) -> None:
    """Add a command for each collection."""
    for name, help_text in _COLLECTIONS.items():
        app.command(name, help=help_text)(_collection_command(name))


def _collection_command(name: str) -> Callable[..., None]:
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
        force: ForceDataset = False,
        overwrite: Overwrite = False,
        as_json: AsJSON = False,
    ) -> None:
        from mammoscope.datasets import ImagesAs, collections

        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("reading", total=None)
            done = collections.import_collection(
                name, folder, out, only=only, partial=partial, each_image_a_patient=each_image_a_patient,
                images_as=ImagesAs.COPIED if copy else ImagesAs.LINKED, overwrite=force or overwrite,
                progress=lambda doing, n, total: progress.update(task, description=doing, completed=n, total=total),
            )  # fmt: skip
        written, title = done.written, done.collection.title
        if as_json:
            print_import_as_json(out, written, done.notes)
            return
        typer.echo(
            f"{title}: {written.images} images of {written.patients} patients with {written.boxes} boxes; "
            f"{written.images_without_boxes} images have no box."
        )
        print_marks(written.marks)
        for note in done.notes:
            typer.echo(f"Note: {note}")
        if written.clipped:
            typer.echo(f"Note: {written.clipped} boxes reached over the image's edge and were cut there.")
        if done.collection.licence:
            typer.echo(f"Licence: {done.collection.licence}. Cite: {done.collection.citation}")
        typer.echo(f"Data set written to {out}; look at it with: mammoscope dataset show {out}")

    return import_collection


_FORMATS = {
    "csv": "A table of boxes: file_name, label, and x0, y0, x1, y1 or x, y, width, height.",
    "cvat": "CVAT for images 1.1: annotations.xml.",
    "detectron2": "Detectron2's dataset dicts as JSON, with metadata.json or --classes.",
    "label-studio": "Label Studio: the JSON or JSON-MIN export.",
    "labelme": "LabelMe: a folder of JSON files.",
    "via": "VGG Image Annotator 1, 2 or 3: JSON or CSV.",
    "voc": "Pascal VOC: a folder of XML files.",
    "yolo": "YOLO: a folder of text files with data.yaml, classes.txt or --classes.",
}


def add_formats(app: typer.Typer) -> None:
    """Add a command for each format."""
    for name, help_text in _FORMATS.items():
        app.command(name, help=help_text)(_format_command(name))


def _format_command(kind: str) -> Callable[..., None]:
    def import_format(
        annotations: Annotated[Path, typer.Option(help="The annotations: a file, or a folder of files.")],
        images: Annotated[Path, typer.Option(help="Folder of the images.")],
        out: Annotated[Path, typer.Option(help="The data set's folder to make.")],
        patient_pattern: Annotated[
            str | None,
            typer.Option(help="Regular expression on file names with the group 'patient' (also 'laterality', 'view')."),
        ] = None,
        table: Annotated[
            Path | None,
            typer.Option(
                help="CSV with file_name and any of patient, study, laterality, view, density, pathology, scanner, "
                "spacing_mm, split, review."
            ),
        ] = None,
        classes: Annotated[
            str | None, typer.Option(help="Names of numbered classes in their order, with commas between.")
        ] = None,
        label_key: Annotated[
            str | None, typer.Option(help="Which attribute of a region, or column, is its label.")
        ] = None,
        label: Annotated[str | None, typer.Option(help="The label of boxes that have none.")] = None,
        counts_from: Annotated[
            int, typer.Option(min=0, max=1, help="Whether Pascal VOC's pixels count from 1 or from 0.")
        ] = 1,
        unmarked: Annotated[str | None, UNMARKED] = None,
        name: Annotated[str | None, typer.Option(help="What the collection is called.")] = None,
        licence: Annotated[str | None, typer.Option(help="Under which licence it may be used.")] = None,
        citation: Annotated[str | None, typer.Option(help="What to cite.")] = None,
        copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of hard-linking them.")] = False,
        symlink: Annotated[bool, typer.Option("--symlink", help="Link images symbolically; they must stay.")] = False,
        force: ForceDataset = False,
        overwrite: Overwrite = False,
        as_json: AsJSON = False,
    ) -> None:
        from mammoscope.datasets.formats import ReadOptions, import_annotations

        options = ReadOptions(
            tuple(part.strip() for part in classes.split(",")) if classes else (), label_key, label, counts_from,
            silence_of(unmarked),
        )  # fmt: skip
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("importing", total=None)
            done = import_annotations(
                kind, annotations, images, out, name=name, licence=licence, citation=citation,
                patient_pattern=patient_pattern, table=table, options=options,
                images_as=placed(copy=copy, symlink=symlink), overwrite=force or overwrite,
                progress=lambda n, total: progress.update(task, completed=n, total=total),
            )  # fmt: skip
        written = done.written
        if as_json:
            print_import_as_json(out, written, done.notes, left_out=done.left_out)
            return
        typer.echo(
            f"{written.images} images of {written.patients} patients with {written.boxes} boxes; "
            f"{written.images_without_boxes} images have no box."
        )
        print_marks(written.marks)
        for note in done.notes:
            typer.echo(f"Note: {note}")
        if written.clipped:
            typer.echo(f"{written.clipped} boxes reached over the image's edge and were cut there.")
        if done.left_out:
            typer.echo(f"{done.left_out} images of {images} are not in the annotations and were left out.")
        typer.echo(f"Data set written to {out}; split it with: mammoscope dataset split {out} --split 0.7/0.15/0.15")

    return import_format


UNMARKED: Any = typer.Option(
    metavar="STATE",
    help="What images without a mark are: negative (somebody looked) or unannotated; by default as the format has it.",
)


def silence_of(unmarked: str | None) -> "Silence | None":
    """What no mark means, by the option; ``None`` for what the format says."""
    from mammoscope.datasets.image_marks import Silence

    if unmarked is None:
        return None
    if unmarked not in list(Silence):
        raise MammoscopeError(f"--unmarked {unmarked}: there are {', '.join(Silence)}.")
    return Silence(unmarked)


def print_import_as_json(
    out: Path, written: "WrittenDataset | ImportSummary", notes: Sequence[str], **more: int
) -> None:
    """What an import made, and what became of every mark, for a program to read."""
    counted = ("images", "patients", "boxes", "crowds", "images_without_boxes", "clipped")
    said = {name: getattr(written, name) for name in counted} | more
    said_of_marks = {"marks": written.marks.to_json(), "notes": list(notes)}
    typer.echo(json.dumps({"data set": str(out), **said, **said_of_marks}, indent=1, ensure_ascii=False))


def print_marks(counts: "MarkCounts") -> None:
    """The table that ends an import: what every image and every mark became."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for what, count, which in counts.rows():
        table.add_row(what, str(count), escape(which))
    Console(highlight=False).print(table)


def placed(*, copy: bool, symlink: bool) -> "ImagesAs":
    """How images get into the folder, from the two switches of the commands that make one."""
    from mammoscope.datasets import ImagesAs

    if copy and symlink:
        raise MammoscopeError("--copy and --symlink do not go together.")
    return ImagesAs.COPIED if copy else ImagesAs.SYMBOLIC if symlink else ImagesAs.LINKED


def export(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    kind: Annotated[str, typer.Option("--format", help="coco, csv, detectron2, voc or yolo.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    split: Annotated[str | None, typer.Option(help="Only the images of that split.")] = None,
    png: Annotated[
        bool, typer.Option("--png", help="Write images as 8-bit PNG, for programs that read no DICOM.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of hard-linking them.")] = False,
    symlink: Annotated[bool, typer.Option("--symlink", help="Link images symbolically; they must stay.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is there.")] = False,
) -> None:
    """Write a data set for other programs, with its images."""
    from mammoscope.datasets.formats import WRITERS, export_dataset

    if kind not in WRITERS:
        raise MammoscopeError(f"--format {kind}: there are {', '.join(sorted(WRITERS))}.")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("exporting", total=None)
        done = export_dataset(
            folder, out, kind, split=split, images_as=placed(copy=copy, symlink=symlink), png=png,
            overwrite=force,
            progress=lambda n, total: progress.update(task, completed=n, total=total),
        )  # fmt: skip
    typer.echo(f"{done.images} images with {done.boxes} boxes written to {out}.")
    if done.unannotated:
        typer.echo(done.unannotated_told())
    if done.crowds_left_out:
        typer.echo(f"{done.crowds_left_out} crowd regions were left out: the format has no word for them.")
