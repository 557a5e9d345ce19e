"""`mammoscope evaluate`: a bundle's figures on annotated mammograms, with a picture of each case."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mammoscope.cli.evaluating import DEFAULT_GROUPS, REPORT, EvaluationOptions, evaluate_into
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets import AnnotatedDataset, AnnotatedImage
    from mammoscope.evaluation import Metrics

_TRAINING = "All splits were evaluated together, images for training among them."
_NO_PATIENTS = "No patient is known: each image is taken for another patient, so the intervals are over images."


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder for figures, predictions, cases, report and pictures.")],
    bundle: Annotated[Path | None, typer.Option(help="The model; the shipped one by default.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="A data set's folder.")] = None,
    split: Annotated[str | None, typer.Option(help="Only that split of the data set.")] = None,
    coco: Annotated[Path | None, typer.Option(help="A COCO file as it stands, instead of --dataset.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of its images.")] = None,
    patient_pattern: Annotated[
        str | None, typer.Option(help="With --coco: regular expression on file names with the group 'patient'.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Only boxes of that label count as truth (may be repeated); of a model with several classes, only its "
            "candidates that say so, too."
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Figures by that attribute of images or boxes (may be repeated); by default size, view, laterality."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Operating point, instead of the bundle's own.")
    ] = None,
    pictures: Annotated[str, typer.Option(help="How many cases to draw: a number, 'all' or 'none'.")] = "all",
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Draws the resamples.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the model.")] = None,
    source: Annotated[str | None, typer.Option(help="What the data are and how to cite them, for the report.")] = None,
    licence: Annotated[str | None, typer.Option(help="Under which licence they may be used, for the report.")] = None,
) -> None:
    """Evaluate a model: AP, precision, recall, F1, FROC, with 95 % intervals and a picture per case.

    Exit code 1 says that some images could not be read: they count as images without findings.
    """
    from mammoscope.inference import Detector

    most_pictures = _number_of_pictures(pictures)
    data, notes = annotated_data(dataset, split, coco, images, patient_pattern)
    if label:
        data = _with_labels(data, label)
    options = EvaluationOptions(
        threshold=threshold,
        groups=by or DEFAULT_GROUPS,
        labels=label or (),
        most_pictures=most_pictures,
        resamples=resamples,
        seed=seed,
        notes=notes,
        about={"source": source, "licence": licence},
    )
    metrics, cases = evaluate_into(out, Detector(bundle, threads=threads), data, options)
    _tell(metrics, out)
    unreadable = [case for case in cases if case.result.unreadable is not None]
    for case in unreadable:
        typer.echo(f"unreadable: {case.result.unreadable}", err=True)
    if unreadable:
        typer.echo(
            f"{len(unreadable)} of {len(cases)} images were not read; they count as images without findings.", err=True
        )
        raise typer.Exit(1)


def _number_of_pictures(text: str) -> int | None:
    if text == "all":
        return None
    if text == "none":
        return 0
    if not text.isdecimal():
        raise MammoscopeError(f"--pictures is a number, 'all' or 'none', not {text!r}.")
    return int(text)


def annotated_data(
    folder: Path | None, split: str | None, coco: Path | None, images: Path | None, patient_pattern: str | None
) -> "tuple[AnnotatedDataset, list[str]]":
    """The images to evaluate, and what a reader of the figures has to know about them."""
    from mammoscope.datasets import AnnotatedDataset, PatientUnknownError, load_dataset

    if (folder is None) == (coco is None):
        raise MammoscopeError("give the images either with --dataset or with --coco and --images.")
    if folder is not None:
        if images is not None or patient_pattern is not None:
            raise MammoscopeError("--images and --patient-pattern belong to --coco; a data set's folder knows both.")
        data = load_dataset(folder, split)
        mixed = split is None and any(image.split == "train" for image in data)
        return data, [_TRAINING] if mixed else []
    if coco is None or images is None:
        raise MammoscopeError("--coco needs --images, the folder of its images.")
    try:
        data, notes = AnnotatedDataset.from_coco(coco, images, patient_pattern=patient_pattern), []
    except PatientUnknownError:
        if patient_pattern is not None:
            raise
        typer.echo(f"{_NO_PATIENTS} Say with --patient-pattern how file names hold the patient.", err=True)
        data = AnnotatedDataset.from_coco(coco, images, each_image_a_patient=True)
        notes = [_NO_PATIENTS]
    if data.clipped:
        typer.echo(f"{data.clipped} boxes reached over the image's edge and were cut there.", err=True)
    return data if split is None else data.narrowed(split), notes


def _with_labels(data: "AnnotatedDataset", labels: Sequence[str]) -> "AnnotatedDataset":
    for label in labels:
        if label not in data.labels:
            raise MammoscopeError(f"{data.name} has no label {label!r}; it has {', '.join(data.labels)}.")

    def only(image: "AnnotatedImage") -> "AnnotatedImage":
        kept = [place for place, name in enumerate(image.labels) if name in labels]
        return replace(
            image,
            boxes=tuple(image.boxes[place] for place in kept),
            labels=tuple(image.labels[place] for place in kept),
            box_facts=tuple(image.box_facts[place] for place in kept),
        )

    return replace(data, images=tuple(only(image) for image in data))


def _tell(metrics: "Metrics", out: Path) -> None:
    from mammoscope.evaluation import named_figures

    table = Table("figure", "value", "95 % interval")
    for name, value, key in named_figures(metrics.to_json()):
        interval = metrics.intervals.get(key)
        shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        table.add_row(name, "undefined" if value is None else f"{value:.3f}", shown)
    Console().print(table)
    typer.echo(
        f"{metrics.n_images} images, {metrics.n_boxes} boxes, {metrics.n_patients} patients; "
        f"threshold {metrics.threshold:.4g} ({metrics.threshold_rule})."
    )
    if metrics.note:
        typer.echo(metrics.note)
    typer.echo(f"Report: {out / REPORT}")
