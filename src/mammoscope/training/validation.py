"""A detector in torch on the validation images: figures on the way, the report at the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mammoscope.datasets import AnnotatedDataset, AnnotatedImage
from mammoscope.detectors import MassDetector
from mammoscope.evaluation import (
    EvaluationError,
    FigureTable,
    ImageResult,
    Metrics,
    case_of,
    choose_threshold,
    evaluate,
)
from mammoscope.findings import Finding
from mammoscope.imaging import Mammogram, PreparedImage, Preprocessing, prepare, read_mammogram
from mammoscope.inference import as_findings

THRESHOLD_RULE = "highest F1 on the validation split, IoU 0.5"
"""How operating points are chosen."""


def candidates(detector: MassDetector, geometry: Preprocessing, mammogram: Mammogram) -> tuple[Finding, ...]:
    """What a detector in torch proposes; as `mammoscope.inference.Detector.candidates` does for a bundle."""
    return _look(detector, prepare(mammogram, geometry), mammogram)


def _look(detector: MassDetector, prepared: PreparedImage, mammogram: Mammogram) -> tuple[Finding, ...]:
    (found,) = _look_at_batch(detector, [(prepared, mammogram)])
    return found


_BATCH = 16
"""Validation images that a GPU looks at together; on a CPU one after the other is as fast and takes less memory."""


def _look_at_batch(
    detector: MassDetector, images: Sequence[tuple[PreparedImage, Mammogram]]
) -> list[tuple[Finding, ...]]:
    device = next(detector.parameters()).device
    pixels = torch.from_numpy(np.stack([prepared.pixels for prepared, _ in images]))[:, None]
    with torch.no_grad():
        batch = detector(pixels.to(device, non_blocking=True))
    findings = []
    for found, (prepared, mammogram) in zip(batch, images, strict=True):
        boxes, scores, labels = (found[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
        findings.append(as_findings(boxes, scores, labels, detector.spec.classes, prepared.placement, mammogram))
    return findings


def results_on(
    detector: MassDetector,
    geometry: Preprocessing,
    dataset: AnnotatedDataset,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[ImageResult]:
    """A detector's candidates on every image of a data set, beside the truth."""
    results = []
    for number, image in enumerate(dataset):
        found = candidates(detector, geometry, read_mammogram(image.path))
        results.append(case_of(image, found).result)
        progress(number + 1, len(dataset))
    return results


def validation_metrics(
    results: list[ImageResult], dataset: AnnotatedDataset, model: str, *, resamples: int = 2000
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
        split=dataset.split_name,
        dataset_fingerprint=dataset.fingerprint(),
        model=model,
        note="The threshold was chosen on these very images: precision, recall and F1 are optimistic.",
    )


def metrics_by_class(
    results: Sequence[ImageResult], dataset: AnnotatedDataset, classes: Sequence[str], overall: Metrics
) -> dict[str, Metrics]:
    """The figures of each class alone: its boxes beside the candidates that say it.

    Parameters
    ----------
    results
        Of these very images.
    overall
        The figures whatever the class; its operating point and resamples are every class's.
    """
    label_of = {image.id: image.labels for image in dataset}

    def only(result: ImageResult, name: str) -> ImageResult:
        labels = label_of[result.image_id]
        truth = tuple(box for box, label in zip(result.truth, labels, strict=True) if label == name)
        candidates = tuple(finding for finding in result.candidates if finding.label == name)
        return replace(result, truth=truth, candidates=candidates)

    return {
        name: evaluate(
            [only(result, name) for result in results],
            overall.threshold,
            overall.threshold_rule,
            resamples=overall.resamples,
            dataset=overall.dataset,
            split=overall.split,
            dataset_fingerprint=overall.dataset_fingerprint,
            model=overall.model,
            note=f"Boxes and candidates of the class {name} only. {overall.note}",
        )
        for name in classes
    }


def class_table(by_class: Mapping[str, Metrics]) -> FigureTable:
    """A row a class: boxes, AP50, precision, recall, F1 with intervals, as `metrics_by_class` gives them."""
    columns = {"AP50": "ap50", "Precision": "precision", "Recall": "recall", "F1": "f1"}

    def cell(metrics: Metrics, figure: str) -> str:
        value, interval = getattr(metrics, figure), metrics.intervals.get(figure)
        spread = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
        return "undefined" if value is None else f"{value:.3f}{spread}"

    return FigureTable(
        "95 % intervals in brackets. A class's boxes beside the candidates that say it.",
        ("Class", "Boxes", *columns),
        tuple(
            (name, str(metrics.n_boxes), *(cell(metrics, figure) for figure in columns.values()))
            for name, metrics in by_class.items()
        ),
    )


class ValidationImages:
    """The validation images, prepared once: a GPU looks at one faster than a CPU can read it."""

    def __init__(self, dataset: AnnotatedDataset, geometry: Preprocessing) -> None:
        self._dataset = dataset
        self._geometry = geometry
        self._prepared: list[tuple[PreparedImage, Mammogram]] = []

    def __len__(self) -> int:
        return len(self._dataset)

    def figures(self, detector: MassDetector, model: str) -> dict[str, Any]:
        """The few figures worth following while a run is under way; empty while the detector still finds nothing.

        Returns
        -------
        ``ap50``, ``ap20``, ``f1``, ``froc_mean`` and ``froc`` whatever the class; ``map50``, the mean of the classes'
        AP50, and with several classes each in ``ap50_by_class``.
        """
        results = self._results(detector)
        try:
            metrics = validation_metrics(results, self._dataset, model, resamples=0)
        except EvaluationError:
            return {}
        classes = detector.spec.classes
        by_class = {
            name: part.ap50 for name, part in metrics_by_class(results, self._dataset, classes, metrics).items()
        }
        known = [value for value in by_class.values() if value is not None]
        return {
            "ap50": metrics.ap50,
            "map50": sum(known) / len(known) if known else None,
            "ap20": metrics.ap20,
            "f1": metrics.f1,
            "froc_mean": metrics.froc_mean,
            "froc": dict(metrics.froc),
            **({"ap50_by_class": by_class} if len(classes) > 1 else {}),
        }

    def _results(self, detector: MassDetector) -> list[ImageResult]:
        if not self._prepared:
            self._prepared = [_prepared(image, self._geometry) for image in self._dataset]
        size = 1 if next(detector.parameters()).device.type == "cpu" else _BATCH
        found = [
            findings
            for start in range(0, len(self._prepared), size)
            for findings in _look_at_batch(detector, self._prepared[start : start + size])
        ]
        return [case_of(image, findings).result for image, findings in zip(self._dataset, found, strict=True)]


def _prepared(image: AnnotatedImage, geometry: Preprocessing) -> tuple[PreparedImage, Mammogram]:
    mammogram = read_mammogram(image.path)
    # Only its size is needed from here on: one pixel stands for all.
    return prepare(mammogram, geometry), replace(
        mammogram, pixels=np.broadcast_to(np.uint16(0), mammogram.pixels.shape), header=None
    )
