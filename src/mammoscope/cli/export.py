"""`mammoscope export`: from a run to a bundle."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mammoscope.cli.torch_extra import needs_torch


def export(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="The folder of a run, as 'mammoscope train' named it; several become one bundle."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The bundle to write.", dir_okay=False)],
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Each network also looks at the mirror image: twice the time.")
    ] = False,
    average: Annotated[
        bool,
        typer.Option(
            "--average", help="Several runs become one network of their mean weights, rather than a look each."
        ),
    ] = False,
    name: Annotated[str | None, typer.Option(help="What result objects call the model.")] = None,
    version: Annotated[
        str | None, typer.Option(help="Its version; by default Mammoscope's and a hash of the model.")
    ] = None,
) -> None:
    """Make a bundle of a trained run, or of several: one ONNX file with all that 'detect' and 'node' need.

    The operating point is chosen on the validation images, and the bundle is compared with the network in torch.
    """
    needs_torch("export")
    from mammoscope.training import RunFolder, export_bundle

    columns = (TextColumn("validating"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("validating", total=None)
        detector = export_bundle(
            [RunFolder(run) for run in runs],
            out,
            mirrored=mirror,
            averaged=average,
            name=name,
            version=version,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    metadata = detector.bundle.metadata
    figures = metadata.figures[0]
    typer.echo(
        f"{out}: {metadata.name} {metadata.version}, {out.stat().st_size / 1e6:.1f} MB, threshold "
        f"{detector.threshold:.3f} ({metadata.operating_points[0].rule}), validation AP50 {figures.values['ap50']:.3f}"
    )
