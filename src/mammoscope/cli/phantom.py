"""`mammoscope phantom`: write a synthetic screening study."""

import json
from pathlib import Path
from typing import Annotated

import typer


def make_phantom(
    out: Annotated[Path, typer.Option(help="Folder for the four DICOM files and truth.json; made if missing.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same study.")] = 0,
    masses: Annotated[int, typer.Option(help="Number of masses, 0 to 6; 0 makes a normal study.")] = 2,
    rows: Annotated[int | None, typer.Option(help="Height of each image in pixels (default: 2048).")] = None,
    columns: Annotated[
        int | None, typer.Option(help="Width in pixels (default: three quarters of the height).")
    ] = None,
) -> None:
    """Make a synthetic four-view screening mammogram (DICOM MG) with known masses.

    truth.json holds the masses' boxes in COCO form.
    """
    from mammoscope.phantom import ROWS, PhantomError, screening_study

    height = ROWS if rows is None else rows
    study = screening_study(seed, masses=masses, rows=height, columns=height * 3 // 4 if columns is None else columns)
    paths = study.save(out)
    truth = out / "truth.json"
    try:
        truth.write_text(json.dumps(study.truth_as_coco(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise PhantomError(f"cannot write {truth} ({error.strerror}): name a folder that can be written to") from error
    for image, path in zip(study.images, paths, strict=True):
        count = len(image.truth)
        typer.echo(f"{path}  {count} {'mass' if count == 1 else 'masses'}")
    typer.echo(truth)
