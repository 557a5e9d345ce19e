"""`mammoscope calibrate`: a bundle whose scores are probabilities on the images of a report."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from mammoscope.errors import MammoscopeError


def calibrate(
    folder: Annotated[Path, typer.Argument(help="The folder that 'mammoscope evaluate' made with this bundle.")],
    out: Annotated[Path, typer.Option(help="The bundle to write.", dir_okay=False)],
    bundle: Annotated[Path | None, typer.Option(help="The bundle; the shipped one by default.")] = None,
) -> None:
    """Fit a bundle's scores to an evaluation of it, so that a score is the probability that a mark hits a lesion.

    Take validation images, or your own: not those that the network learned from, nor those
    whose figures you publish.
    Nothing that is found changes, only its score; every threshold moves with the scores. 'mammoscope export' does this
    by itself.
    """
    if importlib.util.find_spec("onnx") is None:
        raise MammoscopeError(
            "'mammoscope calibrate' needs onnx, which the core does not install: run pip install '.[train]' in "
            "Mammoscope's source folder"
        )
    from mammoscope.evaluation import calibrated, calibration_error, match, read_report, recalibrated_metadata
    from mammoscope.evaluation import uncalibrated as with_raw_scores
    from mammoscope.inference import Bundle, rewrite_metadata

    opened, report = Bundle.open(bundle), read_report(folder)
    metadata = recalibrated_metadata(report, opened.metadata)
    rewrite_metadata(opened.path, metadata, out)
    raw = with_raw_scores(report.results, opened.metadata.calibration)
    errors = [
        calibration_error(match(results, float(report.metrics["iou"])))[0]
        for results in (report.results, calibrated(raw, metadata.calibration))
    ]
    moved = ", ".join(
        f"{before.name} {before.threshold:.3f} -> {after.threshold:.3f}"
        for before, after in zip(opened.metadata.operating_points, metadata.operating_points, strict=True)
    )
    typer.echo(
        f"{out}: {metadata.name} {metadata.version}; expected calibration error on these images {errors[0]:.3f} -> "
        f"{errors[1]:.3f}; thresholds: {moved}"
    )
