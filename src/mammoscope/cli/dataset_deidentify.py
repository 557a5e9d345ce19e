"""`mammoscope dataset deidentify`: images without what names the patient."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from mammoscope.errors import MammoscopeError

_SHOWN = 10


def deidentify(
    source: Annotated[Path, typer.Argument(help="A DICOM file, or a folder of them.", metavar="IN")],
    out: Annotated[Path, typer.Argument(help="Folder for the de-identified files.", metavar="OUT")],
    keys: Annotated[Path, typer.Option(help="The key file; made if it is not there. Keep it apart, and a copy of it.")],
    keep: Annotated[
        str, typer.Option(help="What else is kept, separated by commas: dates-shifted, device, patient.")
    ] = "",
    allow_burned_in: Annotated[
        bool, typer.Option("--allow-burned-in", help="Write images that may have text burned in as well.")
    ] = False,
) -> None:
    """De-identify DICOM images (PS3.15 Annex E); the key file says who is who. Text in the picture is not removed."""
    from mammoscope.datasets.deidentification import Keep
    from mammoscope.datasets.deidentification import deidentify as deidentify_files

    chosen = [word.strip() for word in keep.split(",") if word.strip()]
    if wrong := [word for word in chosen if word not in list(Keep)]:
        raise MammoscopeError(f"--keep {wrong[0]}: choose from {', '.join(Keep)}.")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("de-identifying", total=None)
        done = deidentify_files(
            source, out, keys, map(Keep, chosen), allow_burned_in=allow_burned_in,
            progress=lambda n, total: progress.update(task, completed=n, total=total),
        )  # fmt: skip
    again = f"; {done.again} were there already" if done.again else ""
    typer.echo(f"{done.written} images of {len(done.patients)} patients written to {out}{again}.")
    for path, reason in done.left_out[:_SHOWN]:
        typer.echo(f"Left out: {path}: {reason}.", err=True)
    if len(done.left_out) > _SHOWN:
        typer.echo(f"Left out: {len(done.left_out) - _SHOWN} more.", err=True)
    if done.held_back:
        number = (
            f"{len(done.held_back)} of the images" if allow_burned_in else f"Held back: {len(done.held_back)} images"
        )
        then = ", written all the same." if allow_burned_in else f"; look at them: {done.page_path}"
        typer.echo(f"{number} may have text burned in{then}", err=True)
    if done.left_out or (done.held_back and not allow_burned_in):
        raise typer.Exit(1)
