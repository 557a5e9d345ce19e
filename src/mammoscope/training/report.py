"""What stands at the end of a run: its figures on validation, and the bundle made from it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mammoscope import __version__
from mammoscope.datasets import AnnotatedDataset
from mammoscope.detectors import Layout, MassDetector
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
from mammoscope.findings import Finding
from mammoscope.imaging import read_mammogram
from mammoscope.inference import (
    BundleInput,
    BundleMetadata,
    Calibration,
    Detector,
    Figures,
    OperatingPoint,
    TrainingData,
    rewrite_metadata,
)
from mammoscope.training.checkpoint import RunFolder, write_atomically
from mammoscope.training.data import load_data
from mammoscope.training.errors import TrainingError
from mammoscope.training.export import cannot_be_written, trained_detector, write_bundle
from mammoscope.training.recipe import Recipe
from mammoscope.training.validation import (
    THRESHOLD_RULE,
    candidates,
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


def write_validation(run: RunFolder, progress: Progress) -> Validation:
    """As `report_validation`, with what the figures are made of."""
    recipe = run.recipe()
    validation = _data(run, recipe).narrowed("val")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    raw = results_on(trained_detector(run).to(device), recipe.input.geometry, validation, progress)
    calibration = fit_calibration(raw, fitted_on=_named(validation))
    cases = [
        case_of(image, result.candidates)
        for image, result in zip(validation, calibrated(raw, calibration), strict=True)
    ]
    results = [case.result for case in cases]
    try:
        metrics = validation_metrics(results, validation, recipe.name)
    except EvaluationError as error:
        raise TrainingError(
            f"the detector in {run.path} finds no lesion on the validation images: its checkpoint is kept; train "
            "longer, with another recipe or more data"
        ) from error
    folder = run.path / "validation"
    folder.mkdir(exist_ok=True)
    written = report_markdown(metrics, results)
    if len(recipe.detector.classes) > 1:
        by_class = metrics_by_class(results, validation, recipe.detector.classes, metrics)
        figures = {name: part.to_json() for name, part in by_class.items()}
        write_atomically(folder / "classes.json", json.dumps(figures, indent=2).encode())
        written += f"\n## By class\n\n{class_table(by_class).written(TableFormat.MARKDOWN)}"
    facts = {"calibration": calibration and calibration.model_dump(mode="json")}
    for name, content in (
        (CASES, cases_to_coco(cases, validation.category_ids)),
        (PREDICTIONS, predictions_to_coco(cases, validation.category_ids)),
        (METRICS, metrics.to_json() | facts | {"data": {"source": recipe.data.source, "licence": recipe.data.licence}}),
    ):
        write_atomically(folder / name, json.dumps(content, indent=2).encode())
    write_atomically(folder / "report.md", written.encode())
    return Validation(metrics, results, calibration)


def export_bundle(
    run: RunFolder,
    out: Path,
    *,
    name: str | None = None,
    version: str | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Detector:
    """Make a bundle of a run: operating point from validation, figures and training data in its metadata.

    Parameters
    ----------
    name
        What result objects call the model; ``None`` for the recipe's name.
    version
        ``None`` for Mammoscope's version and a hash of weights, detector and input, so that another model never passes
        for this one.

    Returns
    -------
    Detector
        Running the new bundle, which was compared with the network in torch.

    Raises
    ------
    TrainingError
        As `report_validation`, and if the file cannot be written or the bundle and the network in torch disagree.
    """
    recipe = run.recipe()
    data = _data(run, recipe)
    # Checked under another name: a bundle already at ``out`` stays until this one has proved itself.
    draft = out.with_name(f"{out.name}.unchecked")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise cannot_be_written(out, error) from error
    detector = trained_detector(run)
    validated = write_validation(run, progress)
    metrics = validated.metrics
    metadata = BundleMetadata(
        name=name or f"mammoscope-{recipe.name}",
        version=version or f"{__version__}+{_hash_of(detector, recipe)}",
        input=BundleInput(rows=recipe.input.rows, columns=recipe.input.columns, crop=recipe.input.crop),
        classes=recipe.detector.classes,
        operating_points=(
            OperatingPoint(
                name="default",
                threshold=metrics.threshold,
                rule=THRESHOLD_RULE,
                chosen_on=_named(data.narrowed("val")),
            ),
        ),
        training_data=(_training_data(recipe, data),),
        figures=(as_figures(metrics),),
        calibration=validated.calibration,
        recipe=published_recipe(recipe),
        made_with=f"mammoscope {__version__}, torch {run.description()['torch']}",
    )
    try:
        # Compared as the network scores: calibrated, low scores lie too close together to tell differences.
        write_bundle(detector, metadata.model_copy(update={"calibration": None}), draft)
        _check_agreement(detector, Detector(draft), recipe, data.narrowed("val"))
        rewrite_metadata(draft, metadata, draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return Detector(out)


def as_figures(metrics: Metrics) -> Figures:
    """An evaluation's figures as a bundle keeps them."""
    values = {
        "ap50": metrics.ap50,
        "ap20": metrics.ap20,
        "ap10": metrics.ap10,
        "ap50_95": metrics.ap50_95,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
        **{f"froc_{fppi}": value for fppi, value in metrics.froc.items()},
        **{f"froc_iou20_{fppi}": value for fppi, value in metrics.froc_iou20.items()},
        "calibration_error": metrics.calibration_error,
    }
    return Figures(
        dataset=metrics.dataset,
        split=metrics.split,
        iou=metrics.iou,
        threshold_rule=metrics.threshold_rule,
        values={name: round(value, 4) for name, value in values.items() if value is not None},
        intervals={
            name: (round(interval[0], 4), round(interval[1], 4))
            for name, interval in metrics.intervals.items()
            if name in values
        },
    )


def published_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a bundle keeps it: without places on this machine, weights of a file by the file's name."""
    described = recipe.model_dump(mode="json")
    described["run"] = {"seed": recipe.run.seed}
    described["data"].pop("dataset")
    if recipe.detector.layout is not Layout.DETECTRON2:
        described["detector"].pop("detectron2")
    described["detector"]["weights"] = Path(str(described["detector"]["weights"])).name
    if described.get("start"):
        described["start"] = Path(str(described["start"])).name
    return described


def _named(data: AnnotatedDataset) -> str:
    return f"{data.name}, split {data.split}, {len(data)} images of {len(data.patients)} patients"


def _data(run: RunFolder, recipe: Recipe) -> AnnotatedDataset:
    data = load_data(recipe.data)
    if data.fingerprint() != run.description()["data_fingerprint"]:
        raise TrainingError(
            f"the data set {recipe.data.dataset} is no longer the one that {run.path} was trained on: restore it"
        )
    return data


def _training_data(recipe: Recipe, data: AnnotatedDataset) -> TrainingData:
    learning = data.narrowed("train")
    return TrainingData(
        name=recipe.data.source,
        licence=recipe.data.licence,
        images=len(learning),
        patients=len(learning.patients),
        fingerprint=data.fingerprint(),
    )


def _hash_of(detector: MassDetector, recipe: Recipe) -> str:
    """Of all that decides what is found: weights, input, and how boxes are merged."""
    digest = hashlib.sha256(json.dumps(published_recipe(recipe)["detector"], sort_keys=True).encode())
    digest.update(recipe.input.model_dump_json().encode())
    for name, value in detector.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def _check_agreement(detector: MassDetector, bundle: Detector, recipe: Recipe, data: AnnotatedDataset) -> None:
    """A bundle that reads otherwise than the network it came from must not leave the house."""
    for image in data.images[:_CHECKED_IMAGES]:
        mammogram = read_mammogram(image.path)
        expected = candidates(detector, recipe.input.geometry, mammogram)
        given = bundle.candidates(mammogram)
        lowest = recipe.detector.score_threshold
        if max(len(expected), len(given)) >= recipe.detector.max_detections:
            lowest = max(found[-1].score for found in (expected, given) if found)
        if not agree(expected, given, lowest):
            raise TrainingError(
                f"the bundle reads {image.name} otherwise than the network in torch and was not kept: report this "
                "with the versions of torch and onnxruntime"
            )


def agree(one: Sequence[Finding], other: Sequence[Finding], lowest: float) -> bool:
    """Whether each of either's findings has its like in the other: score within 0.01, box within half a pixel.

    Order does not count, as rounding turns near ties round; neither do scores within 0.01 of ``lowest``, below which
    nothing is proposed, whether by the threshold or because there are as many as may be.
    """
    return all(
        any(_alike(finding, candidate) for candidate in theirs)
        for ours, theirs in ((one, other), (other, one))
        for finding in ours
        if finding.score >= lowest + _SCORE_TOLERANCE
    )


def _alike(one: Finding, other: Finding) -> bool:
    return (
        one.label == other.label
        and abs(one.score - other.score) <= _SCORE_TOLERANCE
        and all(abs(a - b) <= _BOX_TOLERANCE for a, b in zip(one.box.as_tuple(), other.box.as_tuple(), strict=True))
    )
