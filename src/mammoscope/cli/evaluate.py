"""`mammoscope evaluate`: a bundle's figures on annotated mammograms, with a picture of each case."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets import AnnotatedDataset, AnnotatedImage
    from mammoscope.evaluation import Case, Metrics, Subgroup
    from mammoscope.findings import Finding
    from mammoscope.imaging import Mammogram, MammogramReader
    from mammoscope.inference import Detector

_REPORT, _PICTURES = "report.md", "pictures"
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
        list[str] | None, typer.Option(help="Only boxes of that label count as truth (may be repeated).")
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
) -> None:
    """Evaluate a model: AP, precision, recall, F1, FROC, with 95 % intervals and a picture per case.

    Exit code 1 says that some images could not be read: they count as images without findings.
    """
    from mammoscope.evaluation import attributes_of, check_attributes, figures_by
    from mammoscope.evaluation import evaluate as figures_of
    from mammoscope.inference import Detector

    most_pictures = _number_of_pictures(pictures)
    data, notes = _data(dataset, split, coco, images, patient_pattern)
    if label:
        data = _with_labels(data, label)
    groups = by or ["size", "view", "laterality"]
    check_attributes(groups, map(attributes_of, data), data.name)
    detector = Detector(bundle, threads=threads)
    point = float(detector.threshold if threshold is None else threshold)
    _prepare(out)
    cases = _read_all(data, detector, point, out / _PICTURES, most_pictures)
    results = [case.result for case in cases]
    metrics = figures_of(
        results,
        point,
        detector.threshold_rule if threshold is None else "given with --threshold",
        resamples=resamples,
        seed=seed,
        dataset=data.name,
        split=data.split,
        dataset_fingerprint=data.fingerprint(),
        model=detector.algorithm.name,
        model_version=detector.algorithm.version,
        note=" ".join(notes),
    )
    subgroups = figures_by(cases, groups, point, resamples=resamples, seed=seed)
    bundle_facts = detector.bundle.metadata.model_dump(mode="json")
    _write(out, data, metrics, cases, subgroups, bundle_facts)
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


def _data(
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


def _prepare(out: Path) -> None:
    """Make the folder; pictures of an earlier evaluation go, so that none stands beside another's figures."""
    from mammoscope.evaluation import METRICS

    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / METRICS).is_file():
            shutil.rmtree(out / _PICTURES, ignore_errors=True)
            (out / METRICS).unlink()
        (out / _PICTURES).mkdir(exist_ok=True)
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None


def _read_all(
    data: "AnnotatedDataset", detector: "Detector", threshold: float, folder: Path, most_pictures: int | None
) -> "list[Case]":
    from mammoscope.evaluation import case_of
    from mammoscope.imaging import MammogramReader

    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    cases: list[Case] = []
    with MammogramReader() as reader, Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for image in progress.track(data.images):
            candidates: tuple[Finding, ...] = ()
            unreadable = picture = None
            try:
                mammogram = _read(image, reader)
                candidates = detector.candidates(mammogram)
            except MammoscopeError as error:
                unreadable = str(error)
            else:
                if most_pictures is None or len(cases) < most_pictures:
                    picture = _draw(mammogram, image, candidates, threshold, folder)
            cases.append(case_of(image, candidates, unreadable=unreadable, picture=picture))
    return cases


def _read(image: "AnnotatedImage", reader: "MammogramReader") -> "Mammogram":
    mammogram = reader.read(image.path)
    if (mammogram.rows, mammogram.columns) != (image.rows, image.columns):
        raise MammoscopeError(
            f"{image.name} has {mammogram.rows} rows and {mammogram.columns} columns, but its annotations are for "
            f"{image.rows} and {image.columns}."
        )
    return mammogram


def _draw(
    mammogram: "Mammogram", image: "AnnotatedImage", candidates: "Sequence[Finding]", threshold: float, folder: Path
) -> str:
    """Draw a case; its picture's path relative to the report's folder."""
    from PIL import Image

    from mammoscope.findings import Reading, ReadingStatus
    from mammoscope.results import draw_reading

    found = tuple(finding for finding in candidates if finding.score >= threshold)
    status = ReadingStatus.FOUND if found else ReadingStatus.NOTHING_FOUND
    reading = Reading(
        mammogram.name, status, found, rows=mammogram.rows, columns=mammogram.columns, threshold=threshold
    )
    name = folder / f"{image.path.stem}.jpg"
    if name.exists():  # two images of one name in different folders
        name = folder / f"{image.path.stem}_{image.id}.jpg"
    picture = Image.fromarray(draw_reading(mammogram, reading, image.boxes))
    picture.save(name, quality=90, subsampling=0)  # thin coloured lines fade when colour is stored at half size
    return f"{folder.name}/{name.name}"


def _write(
    out: Path,
    data: "AnnotatedDataset",
    metrics: "Metrics",
    cases: "Sequence[Case]",
    subgroups: "Sequence[Subgroup]",
    bundle: dict[str, Any],
) -> None:
    from PIL import Image

    from mammoscope.datasets import write_json
    from mammoscope.evaluation import (
        CASES,
        METRICS,
        PREDICTIONS,
        cases_to_coco,
        draw_froc,
        draw_precision_recall,
        match,
        predictions_to_coco,
        report_markdown,
    )

    results = [case.result for case in cases]
    matches = match(results, metrics.iou)
    try:
        Image.fromarray(draw_precision_recall(matches)).save(out / "precision_recall.png")
        Image.fromarray(draw_froc(matches)).save(out / "froc.png")
        curves = "\n![Precision-recall](precision_recall.png)\n![FROC](froc.png)\n"
        (out / _REPORT).write_text(report_markdown(metrics, results, subgroups) + curves, encoding="utf-8")
        write_json(out / PREDICTIONS, predictions_to_coco(cases, data.category_ids))
        write_json(out / CASES, cases_to_coco(cases, data.category_ids))
        write_json(
            out / METRICS, metrics.to_json() | {"subgroups": [group.to_json() for group in subgroups], "bundle": bundle}
        )
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None


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
    typer.echo(f"Report: {out / _REPORT}")
