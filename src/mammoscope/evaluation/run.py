"""Evaluating a bundle on a data set into a report's folder: what `evaluate` and `compare` share."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets import AnnotatedDataset, AnnotatedImage
    from mammoscope.evaluation import Case, Metrics, Subgroup
    from mammoscope.findings import Finding
    from mammoscope.imaging import Mammogram, MammogramReader
    from mammoscope.inference import Detector

REPORT, _PICTURES = "report.md", "pictures"
DEFAULT_GROUPS = ("size", "view", "laterality")
"""The attributes that figures are split by where none is asked for."""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How to evaluate.

    Parameters
    ----------
    threshold
        Operating point; ``None`` for the bundle's own.
    groups
        Attributes to split figures by.
    labels
        Of a model with several classes only the candidates that say one of these count; all for none.
    most_pictures
        How many cases to draw; ``None`` for all.
    notes
        What a reader of the figures has to know.
    about
        ``source`` and ``licence`` of the data, as far as they are known.
    """

    threshold: float | None = None
    groups: Sequence[str] = DEFAULT_GROUPS
    labels: Sequence[str] = ()
    most_pictures: int | None = 0
    resamples: int = 1000
    seed: int = 0
    notes: Sequence[str] = ()
    about: Mapping[str, str | None] | None = None


def evaluate_into(
    out: Path, detector: "Detector", data: "AnnotatedDataset", options: EvaluationOptions
) -> "tuple[Metrics, list[Case]]":
    """Read every image and leave figures, predictions, cases, report and pictures in a folder.

    Raises
    ------
    MammoscopeError
        If an attribute is not there, or the folder cannot be written.
    """
    from mammoscope.evaluation import attributes_of, check_attributes, figures_by
    from mammoscope.evaluation import evaluate as figures_of

    check_attributes(options.groups, map(attributes_of, data), data.name)
    given = options.threshold
    point = float(detector.threshold if given is None else given)
    _prepare(out)
    cases = _read_all(data, detector, point, out / _PICTURES, options.most_pictures)
    if options.labels and len(detector.bundle.metadata.classes) > 1:
        cases = [_saying(case, options.labels) for case in cases]
    metrics = figures_of(
        [case.result for case in cases],
        point,
        detector.threshold_rule if given is None else "given with --threshold",
        resamples=options.resamples,
        seed=options.seed,
        dataset=data.name,
        split=data.split,
        dataset_fingerprint=data.fingerprint(),
        model=detector.algorithm.name,
        model_version=detector.algorithm.version,
        note=" ".join(options.notes),
    )
    subgroups = figures_by(cases, options.groups, point, resamples=options.resamples, seed=options.seed)
    facts = {"bundle": detector.bundle.metadata.model_dump(mode="json"), "data": dict(options.about or {})}
    _write(out, data, metrics, cases, subgroups, facts)
    return metrics, cases


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


def _saying(case: "Case", labels: Sequence[str]) -> "Case":
    """Only the candidates of those classes: another class's is no false alarm of theirs."""
    candidates = tuple(finding for finding in case.result.candidates if finding.label in labels)
    return replace(case, result=replace(case.result, candidates=candidates))


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
    facts: dict[str, Any],
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
        (out / REPORT).write_text(report_markdown(metrics, results, subgroups) + curves, encoding="utf-8")
        write_json(out / PREDICTIONS, predictions_to_coco(cases, data.category_ids))
        write_json(out / CASES, cases_to_coco(cases, data.category_ids))
        write_json(out / METRICS, metrics.to_json() | {"subgroups": [group.to_json() for group in subgroups]} | facts)
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None
