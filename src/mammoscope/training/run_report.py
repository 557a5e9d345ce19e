"""What stands at the end of a run: its figures on validation."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mammoscope.datasets import AnnotatedDataset
from mammoscope.detectors import MassDetector
from mammoscope.evaluation import (
    CASES,
    METRICS,
    PREDICTIONS,
    EvaluationError,
    ImageResult,
    Metrics,
    TableFormat,
    calibrated,
    case_of,
    cases_to_coco,
    fit_calibration,
    predictions_to_coco,
    report_markdown,
)
from mammoscope.evaluation.data_overlap import known_data, overlaps
from mammoscope.imaging import Preprocessing
from mammoscope.inference import Calibration, DataRole
from mammoscope.training.checkpoint import RunFolder, write_atomically
from mammoscope.training.data import load_data
from mammoscope.training.errors import TrainingError
from mammoscope.training.onnx_export import trained_detector
from mammoscope.training.recipe import Recipe
from mammoscope.training.validation import (
    class_table,
    metrics_by_class,
    results_on,
    validation_metrics,
)

_CHECKED_IMAGES = 4
_SCORE_TOLERANCE = 0.01
_BOX_TOLERANCE = 0.5

Progress = Callable[[int, int], None]


def report_validation(run: RunFolder, progress: Progress = lambda _done, _total: None) -> Metrics:
    """Evaluate a run on its validation images and leave the report's files in ``validation/`` in its folder.

    Scores are calibrated on these images, as the bundle's will be.

    With several classes, ``validation/classes.json`` holds the figures of each.

    Raises
    ------
    TrainingError
        If the run has no checkpoint, its data set has changed, or its detector finds no lesion at all.
    """
    return write_validation(run, progress).metrics


@dataclass(frozen=True, slots=True)
class Validation:
    """A run on its validation images: figures, what they are made of, and how the scores became probabilities."""

    metrics: Metrics
    results: list[ImageResult]
    calibration: Calibration | None


def write_validation(run: RunFolder, progress: Progress, dataset: Path | None = None) -> Validation:
    """As `report_validation`, with what the figures are made of; ``dataset`` is where the data set lies now."""
    recipe = run.recipe()
    validation = data_of(run, dataset).narrowed("val")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        validated = validate(trained_detector(run).to(device), recipe.input.geometry, validation, recipe.name, progress)
    except EvaluationError as error:
        raise TrainingError(
            f"the detector in {run.path} finds no lesion on the validation images: its checkpoint is kept; train "
            "longer, with another recipe or more data"
        ) from error
    _write(run.path / "validation", validated, validation, recipe)
    return validated


def validate(
    detector: MassDetector, geometry: Preprocessing, validation: AnnotatedDataset, model: str, progress: Progress
) -> Validation:
    """A detector on validation images, its scores calibrated on them.

    Raises
    ------
    EvaluationError
        If it finds no lesion at all.
    """
    raw = results_on(detector, geometry, validation, progress)
    calibration = fit_calibration(raw, fitted_on=named(validation))
    results = calibrated(raw, calibration)
    return Validation(validation_metrics(results, validation, model), results, calibration)


def _write(folder: Path, validated: Validation, validation: AnnotatedDataset, recipe: Recipe) -> None:
    metrics, results = validated.metrics, validated.results
    cases = [case_of(image, result.candidates) for image, result in zip(validation, results, strict=True)]
    folder.mkdir(exist_ok=True)
    written = report_markdown(metrics, results)
    if len(recipe.detector.classes) > 1:
        by_class = metrics_by_class(results, validation, recipe.detector.classes, metrics)
        figures = {name: part.to_json() for name, part in by_class.items()}
        write_atomically(folder / "classes.json", json.dumps(figures, indent=2).encode())
        written += f"\n## By class\n\n{class_table(by_class).written(TableFormat.MARKDOWN)}"
    chosen = known_data(DataRole.CHOSEN, validation, salt=str(metrics.dataset_fingerprint))
    facts = {
        "overlaps": [overlap.to_json() for overlap in overlaps([chosen], validation)],
        "calibration": validated.calibration and validated.calibration.model_dump(mode="json"),
    }
    for name, content in (
        (CASES, cases_to_coco(cases, validation.category_ids)),
        (PREDICTIONS, predictions_to_coco(cases, validation.category_ids)),
        (METRICS, metrics.to_json() | facts | {"data": {"source": recipe.data.source, "licence": recipe.data.licence}}),
    ):
        write_atomically(folder / name, json.dumps(content, indent=2).encode())
    write_atomically(folder / "report.md", written.encode())


def named(data: AnnotatedDataset) -> str:
    """A data set's split in one line, with its numbers of images and patients."""
    return f"{data.name}, split {data.split_name}, {len(data)} images of {len(data.patients)} patients"


def data_of(run: RunFolder, dataset: Path | None = None) -> AnnotatedDataset:
    """What a run was trained on.

    Parameters
    ----------
    dataset
        Where it lies now; ``None`` for where it lay then.

    Raises
    ------
    TrainingError
        If it has changed since, or is no longer there.
    """
    section = run.recipe().data
    if dataset is None and not section.dataset.is_dir():
        raise TrainingError(
            f"the data set that {run.path} was trained on is no longer in {section.dataset}: say with --dataset where "
            "it is now"
        )
    data = load_data(section.model_copy(update={"dataset": dataset or section.dataset}))
    if data.fingerprint() != run.description()["data_fingerprint"]:
        raise TrainingError(f"the data set {data.name} is no longer the one that {run.path} was trained on: restore it")
    return data
