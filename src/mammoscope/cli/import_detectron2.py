"""`mammoscope import-checkpoint`, and `import-detectron2`: another program's model becomes a bundle."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mammoscope.cli.torch_extra import needs_torch
from mammoscope.errors import MammoscopeError

_LAYOUTS = "detectron2, torchvision, orthanc-mammography"


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth, or a .pkl of Detectron2's model zoo.")],
    out: Annotated[Path, typer.Option(help="The bundle to write.", dir_okay=False)],
    config: Annotated[Path | None, typer.Option(help="Detectron2's config.yaml of that training.")] = None,
    layout: Annotated[
        str | None, typer.Option(help=f"Whose checkpoint it is, where its tensors do not tell: {_LAYOUTS}.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Names of the network's classes, separated by commas; - leaves one out. One class is Mass."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Operating point: findings with that score are reported.")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="A data set with a split 'val' that chooses it and gives the bundle its figures."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=32, help="Of the input; by default as the images were resized.")
    ] = None,
    columns: Annotated[int | None, typer.Option(min=32, help="Of the input, both multiples of 32.")] = None,
    crop: Annotated[str, typer.Option(help="What of a mammogram it sees: none (all of it) or breast.")] = "none",
    name: Annotated[str | None, typer.Option(help="What result objects call the model.")] = None,
    version: Annotated[str | None, typer.Option(help="Its version.")] = None,
    source: Annotated[str, typer.Option(help="What it was trained on.")] = "not stated",
    licence: Annotated[str, typer.Option(help="Under which licence those data may be used.")] = "not stated",
    bn_eps: Annotated[
        float, typer.Option(min=0, help="Of torchvision's batch norms; 0 for its COCO weights and what came of them.")
    ] = 1e-5,
) -> None:
    """Make a bundle of a model trained with Detectron2, torchvision or orthanc-mammography.

    The bundle is compared with the network in torch: same boxes to half a pixel, same scores to 0.001.
    """
    needs_torch("import-checkpoint")
    from mammoscope.detectors.foreign import Origin
    from mammoscope.imaging import Crop
    from mammoscope.training.importing import ImportOptions
    from mammoscope.training.importing import import_checkpoint as make_bundle

    if layout is not None and layout not in list(Origin):
        raise MammoscopeError(f"--layout is one of {_LAYOUTS}, not {layout!r}.")
    if crop not in list(Crop):
        raise MammoscopeError(f"--crop is one of {', '.join(Crop)}, not {crop!r}.")
    options = ImportOptions(
        configuration=config,
        origin=Origin(layout) if layout else None,
        classes=[one.strip() for one in classes.split(",")] if classes else None,
        norm_epsilon=bn_eps,
        rows=rows,
        columns=columns,
        crop=Crop(crop),
        threshold=threshold,
        dataset=dataset,
        name=name,
        version=version,
        source=source,
        licence=licence,
    )
    bars = (TextColumn("validating"), BarColumn(), MofNCompleteColumn())
    with Progress(*bars, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("validating", total=None, visible=dataset is not None)
        detector = make_bundle(
            checkpoint, out, options, lambda done, total: progress.update(task, completed=done, total=total)
        )
    facts = detector.bundle.metadata
    figures = f", validation AP50 {facts.figures[0].values['ap50']:.3f}" if facts.figures else ""
    typer.echo(
        f"{out}: {facts.name} {facts.version}, {out.stat().st_size / 1e6:.1f} MB, input {facts.input.rows} x "
        f"{facts.input.columns} ({facts.input.crop}), classes {', '.join(facts.classes)}, threshold "
        f"{detector.threshold:.3f}{figures}"
    )
