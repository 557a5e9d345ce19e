"""A detector in torch on the validation images: figures on the way, the report at the end."""

from collections.abc import Callable
from typing import Any

import torch

from mammoscope.datasets import AnnotatedDataset
from mammoscope.detectors import MassDetector
from mammoscope.evaluation import EvaluationError, ImageResult, Metrics, choose_threshold, evaluate
from mammoscope.findings import Finding
from mammoscope.imaging import InputGeometry, Mammogram, prepare, read_mammogram
from mammoscope.inference import as_findings

THRESHOLD_RULE = "highest F1 on the validation split, IoU 0.5"
"""How operating points are chosen."""


def candidates(detector: MassDetector, geometry: InputGeometry, mammogram: Mammogram) -> tuple[Finding, ...]:
    """What a detector in torch proposes; as `mammoscope.inference.Detector.candidates` does for a bundle."""
    prepared = prepare(mammogram, geometry)
    device = next(detector.parameters()).device
    with torch.no_grad():
        found = detector(torch.from_numpy(prepared.pixels)[None, None].to(device))[0]
    boxes, scores, labels = (found[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
    return as_findings(boxes, scores, labels, detector.spec.classes, prepared.placement, mammogram)


def results_on(
    detector: MassDetector,
    geometry: InputGeometry,
    dataset: AnnotatedDataset,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[ImageResult]:
    """A detector's candidates on every image of a data set, beside the truth."""
    results = []
    for number, image in enumerate(dataset):
        found = candidates(detector, geometry, read_mammogram(image.path))
        results.append(ImageResult(image.id, image.patient, image.boxes, found, image.crowds))
        progress(number + 1, len(dataset))
    return results


def validation_metrics(
    results: list[ImageResult], dataset: AnnotatedDataset, model: str, *, resamples: int = 1000
) -> Metrics:
    """All figures on the validation images, at the operating point chosen on them.

    Raises
    ------
    EvaluationError
        If no candidate finds a lesion, so that no operating point can be chosen.
    """
    threshold = choose_threshold(results)
    return evaluate(
        results,
        threshold,
        THRESHOLD_RULE,
        resamples=resamples,
        dataset=dataset.name,
        split=dataset.split,
        dataset_fingerprint=dataset.fingerprint(),
        model=model,
        note="The threshold was chosen on these very images: precision, recall and F1 are optimistic.",
    )


def figures_for_curves(
    detector: MassDetector, geometry: InputGeometry, dataset: AnnotatedDataset, model: str
) -> dict[str, Any]:
    """The few figures worth following while a run goes on; empty while the detector still finds nothing."""
    try:
        metrics = validation_metrics(results_on(detector, geometry, dataset), dataset, model, resamples=0)
    except EvaluationError:
        return {}
    return {"ap50": metrics.ap50, "ap20": metrics.ap20, "f1": metrics.f1, "froc": dict(metrics.froc)}
