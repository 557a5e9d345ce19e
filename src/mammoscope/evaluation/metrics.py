"""All figures of one detector on one set of images, with their intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mammoscope.evaluation.errors import EvaluationError
from mammoscope.evaluation.figures import Floats, average_precision, count_at, sensitivity_at
from mammoscope.evaluation.matching import ImageResult, match

FPPI = (0.25, 0.5, 1.0, 2.0)
"""False positives per image at which the sensitivity is given."""
_LEVEL = (2.5, 97.5)
_NO_NORMALS = (
    "Every image holds at least one marked lesion: false positives per image are counted on images with a lesion and "
    "say nothing about normal mammograms."
)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures; `docs/evaluation.md` defines each.

    A figure that is undefined (precision without findings, anything about lesions without lesions) is ``None``.

    Parameters
    ----------
    ap50, ap20, ap10
        COCO's 101-point AP with at most 100 candidates an image, at IoU 0.5, 0.2 and 0.1.
    precision, recall, f1, fppi, true_positives, false_positives, false_negatives
        At ``threshold``, matched at ``iou``.
    threshold_rule
        How the threshold came about, in words.
    froc, froc_iou20
        Sensitivity by false positives per image (``"0.25"``), matched at ``iou`` and at IoU 0.2.
    intervals
        95 % interval [low, high] by figure; those of ``froc`` are called ``froc_0.25``, of ``froc_iou20``
        ``froc_iou20_0.25``. Percentiles of ``resamples`` bootstrap resamples over patients, drawn from ``seed``. A
        figure that is undefined has none.
    note
        What a reader of the figures has to know.
    """

    ap50: float | None
    ap20: float | None
    ap10: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    fppi: float
    threshold: float
    threshold_rule: str
    iou: float
    froc: Mapping[str, float | None]
    froc_iou20: Mapping[str, float | None]
    true_positives: int
    false_positives: int
    false_negatives: int
    n_images: int
    n_boxes: int
    n_patients: int
    n_images_without_boxes: int
    n_unreadable: int
    intervals: Mapping[str, tuple[float, float]]
    resamples: int
    seed: int
    dataset: str
    split: str | None
    dataset_fingerprint: str | None
    model: str
    model_version: str
    note: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        intervals = {name: list(interval) for name, interval in self.intervals.items()}
        return content | {"froc": dict(self.froc), "froc_iou20": dict(self.froc_iou20), "intervals": intervals}


def evaluate(
    results: Sequence[ImageResult],
    threshold: float,
    threshold_rule: str,
    *,
    iou: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
    dataset: str = "",
    split: str | None = None,
    dataset_fingerprint: str | None = None,
    model: str = "",
    model_version: str = "",
    note: str = "",
) -> Metrics:
    """All figures of a detector on a set of images.

    Parameters
    ----------
    results
        One an image; an unreadable image is there too, without candidates.
    threshold
        The operating point; choose it on validation (`choose_threshold`), never on the images evaluated here.
    iou
        Least IoU of a hit for precision, recall, F1 and ``froc``.
    resamples
        Bootstrap resamples over patients; 0 for no intervals.
    note
        Put before what is noted on the figures anyway.

    Raises
    ------
    EvaluationError
        If there is no image, an image is there twice, or the threshold is not a number.
    """
    if not math.isfinite(threshold):
        raise EvaluationError(f"the threshold must be a number, not {threshold}.")
    at = {level: match(results, level) for level in {0.5, 0.2, 0.1, iou}}
    n_patients = at[iou].n_patients

    def figures(weights: Floats) -> dict[str, Floats]:
        counts = count_at(at[iou], threshold, weights)
        found = {
            "ap50": average_precision(at[0.5], weights),
            "ap20": average_precision(at[0.2], weights),
            "ap10": average_precision(at[0.1], weights),
            "precision": counts.precision,
            "recall": counts.recall,
            "f1": counts.f1,
        }
        for name, level in (("froc", iou), ("froc_iou20", 0.2)):
            sensitivity = sensitivity_at(at[level], FPPI, weights)
            found |= {f"{name}_{_key(x)}": sensitivity[:, index] for index, x in enumerate(FPPI)}
        return found

    figure = {name: _or_none(values[0]) for name, values in figures(np.ones((1, n_patients))).items()}
    drawn = np.random.default_rng(seed).multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)
    spread = figures(drawn.astype(np.float64)) if resamples else {}
    counts = count_at(at[iou], threshold)
    without_boxes = sum(not result.truth for result in results)
    return Metrics(
        **{name: figure[name] for name in ("ap50", "ap20", "ap10", "precision", "recall", "f1")},
        fppi=float(counts.false_positives[0]) / len(results),
        threshold=threshold,
        threshold_rule=threshold_rule,
        iou=iou,
        froc={_key(x): figure[f"froc_{_key(x)}"] for x in FPPI},
        froc_iou20={_key(x): figure[f"froc_iou20_{_key(x)}"] for x in FPPI},
        true_positives=int(counts.true_positives[0]),
        false_positives=int(counts.false_positives[0]),
        false_negatives=int(counts.false_negatives[0]),
        n_images=len(results),
        n_boxes=sum(len(result.truth) for result in results),
        n_patients=n_patients,
        n_images_without_boxes=without_boxes,
        n_unreadable=sum(result.unreadable is not None for result in results),
        intervals={
            name: interval
            for name, values in spread.items()
            if figure[name] is not None and (interval := _interval(values)) is not None
        },
        resamples=resamples,
        seed=seed,
        dataset=dataset,
        split=split,
        dataset_fingerprint=dataset_fingerprint,
        model=model,
        model_version=model_version,
        note=" ".join(part for part in (note, "" if without_boxes else _NO_NORMALS) if part),
    )


def _interval(values: Floats) -> tuple[float, float] | None:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, _LEVEL)
    return float(low), float(high)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _key(fppi: float) -> str:
    return f"{fppi:g}"
