"""`mammoscope bundle check` and `show`, and `mammoscope import-onnx`: bundles of any origin."""

import importlib.util
import json
from pathlib import Path
from typing import Annotated

import typer

from mammoscope.cli.outputs import new_file
from mammoscope.errors import MammoscopeError

app = typer.Typer(help="Look at a bundle, or at what a file lacks to be one.", no_args_is_help=True)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="An ONNX file.", dir_okay=False)]) -> None:
    """Tell what a file lacks of a bundle. Exit code 0: nothing; 1: what is listed."""
    from mammoscope.inference.contract import what_lacks

    lacks = what_lacks(file)
    for one in lacks:
        typer.echo(f"{file}: {one}")
    if lacks:
        raise typer.Exit(1)
    typer.echo(f"{file} is a bundle.")


@app.command()
def show(
    file: Annotated[Path | None, typer.Argument(help="The bundle; the shipped one by default.", dir_okay=False)] = None,
) -> None:
    """Print what a bundle says of itself, as JSON, without the hashes of its data."""
    from mammoscope.evaluation.data_overlap import data_known_to
    from mammoscope.inference import Bundle

    bundle = Bundle.open(file, threads=1)
    said = bundle.metadata.model_dump(mode="json", exclude={"known_data"})
    known = [
        {"role": str(one.role), "data": one.data, "patients": len(one.patients), "images": len(one.images)}
        for one in data_known_to(bundle)
    ]
    typer.echo(json.dumps(said | {"known_data": known}, indent=1))


def import_onnx(
    model: Annotated[Path, typer.Argument(help="An ONNX file of a detector.", dir_okay=False)],
    out: Annotated[Path, typer.Option(help="The bundle to write.", dir_okay=False)],
    name: Annotated[str, typer.Option(help="What result objects call the model.")],
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Operating point.")],
    version: Annotated[str, typer.Option(help="Its version.")] = "1",
    classes: Annotated[str, typer.Option(help="Names of its classes by index, separated by commas.")] = "Mass",
    image: Annotated[str, typer.Option("--input", help="What the network calls its input.")] = "image",
    boxes: Annotated[str, typer.Option(help="Its output of boxes: x0, y0, x1, y1 in pixels of the input.")] = "boxes",
    scores: Annotated[str, typer.Option(help="Its output of scores from 0 to 1.")] = "scores",
    labels: Annotated[str, typer.Option(help="Its output of class indices; - for none.")] = "labels",
    rows: Annotated[int | None, typer.Option(min=1, help="Of its input, where that is not fixed.")] = None,
    columns: Annotated[int | None, typer.Option(min=1, help="Likewise.")] = None,
    crop: Annotated[str, typer.Option(help="What of a mammogram it sees: none (all of it) or breast.")] = "breast",
    source: Annotated[str, typer.Option(help="What it was trained on.")] = "not stated",
    licence: Annotated[str, typer.Option(help="Under which licence those data may be used.")] = "not stated",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Make a bundle of any detector in ONNX that keeps the contract of docs/reference/bundle.md.

    The bundle is run on a picture before it is kept.
    """
    if importlib.util.find_spec("onnx") is None:
        raise MammoscopeError(
            "'mammoscope import-onnx' needs onnx, which the core does not install: run pip install '.[train]' in "
            "Mammoscope's source folder"
        )
    from mammoscope import __version__
    from mammoscope.imaging import Crop
    from mammoscope.inference import BundleInput, BundleMetadata, OperatingPoint, TrainingData
    from mammoscope.inference.contract import UNIT
    from mammoscope.inference.import_onnx import OnnxNames, input_size
    from mammoscope.inference.import_onnx import import_onnx as write_bundle

    new_file(out, force=force)
    if crop not in list(Crop):
        raise MammoscopeError(f"--crop is one of {', '.join(Crop)}, not {crop!r}.")
    names = OnnxNames(image, boxes, scores, None if labels == "-" else labels)
    fixed = input_size(model, names)
    if fixed is None and (rows is None or columns is None):
        raise MammoscopeError(f"{model} takes images of any size: say which with --rows and --columns.")
    if fixed is not None and (rows or fixed[0], columns or fixed[1]) != fixed:
        raise MammoscopeError(f"{model} takes {fixed[0]} rows and {fixed[1]} columns and no others.")
    size = fixed or (rows or 0, columns or 0)
    if any(side < UNIT or side % UNIT for side in size):
        raise MammoscopeError(f"a bundle's rows and columns are multiples of {UNIT}, not {size[0]} x {size[1]}.")
    metadata = BundleMetadata(
        name=name,
        version=version,
        input=BundleInput(rows=size[0], columns=size[1], crop=Crop(crop)),
        classes=tuple(one.strip() for one in classes.split(",")),
        operating_points=(
            OperatingPoint(
                name="default", threshold=threshold, rule="given by whoever imported it", chosen_on="not stated"
            ),
        ),
        training_data=(TrainingData(name=source, licence=licence, images=0, patients=0, fingerprint="not known"),),
        made_with=f"mammoscope {__version__}, import-onnx",
    )
    write_bundle(model, out, metadata, names)
    typer.echo(
        f"{out}: {name} {version}, input {size[0]} x {size[1]} ({crop}), classes {classes}, threshold {threshold}"
    )
